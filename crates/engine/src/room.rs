//! Short lists that exist once a user.

/// From here on a list grows as lists do.
const SHORT: usize = 8;

/// Makes room for one item more, and for no other while the list is short: most lists of most users hold
/// one or two items, and the four that a first push makes room for would be most of a user's memory.
pub fn room_for_one<T>(list: &mut Vec<T>) {
    if list.len() < SHORT {
        list.reserve_exact(1);
    }
}
