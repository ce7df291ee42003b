//! What a user has earned and not yet spent, by when it expires.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// The day on which what never expires would be gone.
pub const NEVER: i32 = i32::MAX;

/// An account as it is at the end of a day.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// What is left of what was earned, by the first day on which it is gone.
    lots: SmallVec<[Lot; 1]>,
    /// Spent without having been there: what is earned next pays for it.
    debt: u64,
    /// In all.
    pub earned: u64,
    pub spent: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lot {
    pub gone_on: i32,
    pub left: u64,
}

impl Account {
    pub fn balance(&self) -> i64 {
        let left: u64 = self.lots.iter().map(|lot| lot.left).sum();
        left as i64 - self.debt as i64
    }

    /// What is left, the first to go first.
    pub fn lots(&self) -> &[Lot] {
        &self.lots
    }

    /// The first day on which something will be gone.
    pub fn next_day(&self) -> Option<i32> {
        let first = self.lots.first()?;
        (first.gone_on != NEVER).then_some(first.gone_on)
    }

    /// Takes out what is gone on a day, or was before; gives it.
    pub fn expire(&mut self, day: i32) -> SmallVec<[Lot; 1]> {
        let gone = self.lots.iter().take_while(|lot| lot.gone_on <= day).count();
        self.lots.drain(..gone).collect()
    }

    pub fn earn(&mut self, points: u64, gone_on: i32) {
        self.earned += points;
        let pays = points.min(self.debt);
        self.debt -= pays;
        let left = points - pays;
        if left == 0 {
            return;
        }
        match self.lots.last_mut() {
            Some(last) if last.gone_on == gone_on => last.left += left,
            _ => self.lots.push(Lot { gone_on, left }),
        }
    }

    /// What goes first is spent first.
    pub fn spend(&mut self, points: u64) {
        self.spent += points;
        let mut rest = points;
        for lot in &mut self.lots {
            let taken = rest.min(lot.left);
            lot.left -= taken;
            rest -= taken;
        }
        self.lots.retain(|lot| lot.left > 0);
        self.debt += rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_first_is_spent_first_and_a_debt_is_paid() {
        let mut account = Account::default();
        account.earn(10, 5);
        account.earn(10, 8);
        account.spend(15);
        assert_eq!(account.lots(), [Lot { gone_on: 8, left: 5 }]);
        account.spend(8);
        assert_eq!((account.balance(), account.next_day()), (-3, None));
        account.earn(4, 9);
        assert_eq!(account.expire(8).len(), 0);
        assert_eq!(account.expire(9).as_slice(), [Lot { gone_on: 9, left: 1 }]);
        assert_eq!((account.balance(), account.earned, account.spent), (0, 24, 23));
    }
}
