//! Short lists that exist once a user.

/// Makes room for one item more, and for few others: most lists of most users hold one or two items, and the four that a
/// first push makes room for would be most of a user's memory. What was full grows by an eighth.
pub fn room_for_one<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact(1 + list.len() / 8);
    }
}
