//! Shares: one rate that all customers draw from. A customer alone may have all of it, since a proxy or a carrier behind
//! which many come looks like one. Where others ask as well, who took more than an equal share of the last second is the
//! first to be refused, so that one that takes every handshake keeps no newcomer out.
//!
//! The rate is a bucket, and so is each customer's share of it. An empty bucket gives those who are within their share some
//! more on credit, which is paid back before anything is left for those who are beyond it: so a newcomer comes in at
//! once, and what is given in the long run is the rate.
//!
//! Customers that each take just their share use up the whole rate, and so would keep the credit used up as well. The second
//! half of it is therefore for those who are within half their share: these take half the rate at most, so the other half
//! pays back what was lent, and the next newcomer finds some.
//!
//! Against as many customers as the rate has handshakes in a second nothing of this helps: they look like a crowd, and a
//! newcomer gets in as often as each of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::places::customer;
use crate::rate::{Bucket, Rate};

/// Customers that are told apart: three mebibytes of memory. Only who was given something in the last second counts, so at the
/// default rate there are far fewer. Beyond it the further ones share one share.
const TOLD_APART: usize = 16_384;
/// Those who have had nothing for a second are forgotten this often; until then they count among those who ask.
const FORGET_EVERY: Duration = Duration::from_millis(250);
/// What is given beyond the rate to those within half their share: half a second's worth, above what newcomers ask in a
/// moment, and no more than a node bears once.
const CREDIT: Duration = Duration::from_millis(500);
/// And to those within the whole of it.
const HALF_CREDIT: Duration = CREDIT.checked_div(2).expect("two is not zero");

/// See the module.
#[derive(Debug)]
pub struct Shares {
    per_second: u32,
    /// The most of one customer, also while no other asks.
    cap: Option<Rate>,
    given: Mutex<Given>,
}

/// Why there is nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scarce {
    /// The rate is used up, by those within their share too.
    All,
    /// This customer had its share, and the rest is for others.
    Share,
}

/// Of the last second.
#[derive(Debug, Default)]
struct Given {
    all: Bucket,
    /// By address; all beyond those told apart are one.
    customers: HashMap<Option<IpAddr>, Customer>,
    forgot: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Customer {
    share: Bucket,
    half_share: Bucket,
    capped: Bucket,
}

/// What a customer may have for every second while so many ask.
#[derive(Clone, Copy, Debug)]
struct Portion {
    share: Rate,
    half_share: Rate,
    cap: Option<Rate>,
}

impl Shares {
    /// So many in a second, a second's worth at once, and so many of them to one customer at the most.
    #[must_use]
    pub fn per_second(times: u32, cap: Option<u32>) -> Self {
        Self { per_second: times, cap: cap.map(Rate::per_second), given: Mutex::default() }
    }

    /// Gives one to a client.
    ///
    /// # Errors
    /// When there is none for it.
    pub fn take(&self, client: IpAddr, now: Instant) -> Result<(), Scarce> {
        let mut given = self.given.lock();
        given.forget(now);
        let key = given.key(customer(client));
        let askers = given.customers.len() + usize::from(!given.customers.contains_key(&key));
        let (all, portion) = (Rate::per_second(self.per_second), self.portion(askers));
        let mut its = given.customers.get(&key).copied().unwrap_or_default();
        if portion.cap.is_some_and(|cap| !its.capped.has(cap, now)) {
            return Err(Scarce::Share);
        }
        // Alone it has all there is, and keeps none waiting.
        let credit = if askers > 1 { its.credit(portion, now) } else { None };
        if !given.all.take(all, now) && !credit.is_some_and(|credit| given.all.take_on_credit(all, credit, now)) {
            return Err(if credit.is_some() || askers == 1 { Scarce::All } else { Scarce::Share });
        }
        its.charge(portion, now);
        given.customers.insert(key, its);
        Ok(())
    }

    fn portion(&self, askers: usize) -> Portion {
        let askers = u32::try_from(askers).unwrap_or(u32::MAX);
        let part = |of: u32| Rate::per_second(self.per_second / of);
        Portion { share: part(askers), half_share: part(askers.saturating_mul(2)), cap: self.cap }
    }
}

impl Customer {
    /// What it may have before the rate allows it.
    fn credit(&self, portion: Portion, now: Instant) -> Option<Duration> {
        if self.half_share.has(portion.half_share, now) {
            return Some(CREDIT);
        }
        self.share.has(portion.share, now).then_some(HALF_CREDIT)
    }

    fn charge(&mut self, portion: Portion, now: Instant) {
        self.share.charge(portion.share, now);
        self.half_share.charge(portion.half_share, now);
        if let Some(cap) = portion.cap {
            self.capped.charge(cap, now);
        }
    }

    fn has_had_nothing(&self, now: Instant) -> bool {
        [self.share, self.half_share, self.capped].iter().all(|bucket| bucket.is_full(now))
    }
}

impl Given {
    fn key(&self, ip: IpAddr) -> Option<IpAddr> {
        let is_told_apart = self.customers.len() < TOLD_APART || self.customers.contains_key(&Some(ip));
        is_told_apart.then_some(ip)
    }

    fn forget(&mut self, now: Instant) {
        if self.forgot.is_some_and(|at| now.saturating_duration_since(at) < FORGET_EVERY) {
            return;
        }
        self.forgot = Some(now);
        self.customers.retain(|_, its| !its.has_had_nothing(now));
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    const GREEDY: &str = "203.0.113.7";

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// How many of `asks` from one address are given in the course of a second that begins at `from`.
    fn given(shares: &Shares, client: IpAddr, from: Instant, asks: u32) -> u32 {
        let at = |i| from + Duration::from_secs(1) * i / asks;
        (0..asks).map(|i| u32::from(shares.take(client, at(i)).is_ok())).sum()
    }

    #[test]
    fn a_customer_alone_has_the_whole_rate() {
        let (shares, start) = (Shares::per_second(100, None), Instant::now());
        assert!(
            (199..=201).contains(&given(&shares, ip(GREEDY), start, 10_000)),
            "a second's worth at once, and the rate"
        );
        for second in 1..5 {
            let from = start + Duration::from_secs(second);
            assert!((99..=101).contains(&given(&shares, ip(GREEDY), from, 10_000)), "second {second}");
        }
        let last = (0..3).map(|_| shares.take(ip(GREEDY), start + Duration::from_secs(5))).last();
        assert_eq!(last, Some(Err(Scarce::All)), "no other asks");
    }

    #[test]
    fn a_newcomer_comes_in_at_once_beside_one_that_takes_everything() {
        let (shares, start) = (Shares::per_second(100, None), Instant::now());
        let mut taken = 0;
        for tick in 0..20_000_u32 {
            let now = start + Duration::from_millis(1) / 2 * tick;
            taken += u32::from(shares.take(ip(GREEDY), now).is_ok());
            if tick >= 300 && tick % 50 == 49 {
                let newcomer = ip(&format!("198.51.100.{}", tick / 50 % 250));
                assert_eq!(shares.take(newcomer, now), Ok(()), "at tick {tick}");
                assert_eq!(shares.take(ip(GREEDY), now), Err(Scarce::Share), "at tick {tick}");
            }
        }
        assert!((700..=720).contains(&taken), "of 1000 + 100 the newcomers had 394, and it the rest: {taken}");
    }

    #[test]
    fn two_that_want_everything_have_half_each() {
        let (shares, start) = (Shares::per_second(100, None), Instant::now());
        let early = given(&shares, ip(GREEDY), start, 1000);
        assert!(early >= 100);
        let mut taken = [0, 0];
        for tick in 0..10_000_u32 {
            let now = start + Duration::from_secs(1) + Duration::from_millis(1) * tick;
            // The one asks ten times as often as the other.
            taken[0] += (0..10).map(|_| u32::from(shares.take(ip(GREEDY), now).is_ok())).sum::<u32>();
            taken[1] += u32::from(shares.take(ip("198.51.100.1"), now).is_ok());
        }
        assert!(taken[1] >= 480, "{taken:?}");
        assert!((990..=1060).contains(&taken.iter().sum::<u32>()), "the rate, and the credit once: {taken:?}");
    }

    #[test]
    fn a_newcomer_comes_in_at_once_beside_many_that_take_everything() {
        for greedy in [2, 3, 10, 50, 90] {
            let (shares, start) = (Shares::per_second(100, None), Instant::now());
            let (mut taken, mut came) = (0, 0);
            for tick in 0..5_000_u32 {
                let now = start + Duration::from_millis(2) * tick;
                // The first has used up the rate when the second comes, and so on.
                let there = greedy.min(1 + tick / 15);
                taken += (0..there).filter(|i| shares.take(ip(&format!("203.0.113.{i}")), now).is_ok()).count();
                if tick >= 2000 && tick % 750 == 0 {
                    let newcomer = ip(&format!("198.51.100.{}", tick / 750));
                    assert_eq!(shares.take(newcomer, now), Ok(()), "beside {greedy} at tick {tick}");
                    came += 1;
                }
            }
            assert!(came == 4 && (950..=1150).contains(&(taken + came)), "{greedy}: {taken} and {came}");
        }
    }

    #[test]
    fn many_newcomers_are_given_no_more_than_the_rate_and_the_credit() {
        let (shares, start) = (Shares::per_second(100, None), Instant::now());
        let newcomer = |i: u32| IpAddr::V6(Ipv6Addr::from_bits(u128::from(i) << 64));
        let at_once = (0..1000).filter(|i| shares.take(newcomer(*i), start).is_ok()).count();
        assert_eq!(at_once, 150);
        assert_eq!(shares.take(newcomer(5000), start), Err(Scarce::All));
        let later = (1000..6000).filter(|i| shares.take(newcomer(*i), start + Duration::from_secs(1)).is_ok()).count();
        assert_eq!(later, 100);
    }

    #[test]
    fn one_customer_may_be_capped() {
        let (shares, start) = (Shares::per_second(100, Some(5)), Instant::now());
        let six = ["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::4", "2001:db8::5", "2001:db8::6"];
        let taken: Vec<_> = six.iter().map(|from| shares.take(ip(from), start)).collect();
        assert_eq!(taken, [Ok(()), Ok(()), Ok(()), Ok(()), Ok(()), Err(Scarce::Share)]);
        assert_eq!(shares.take(ip("2001:db8:0:1::1"), start), Ok(()));
    }

    #[test]
    fn memory_is_bounded_and_the_quiet_are_forgotten() {
        let (shares, start) = (Shares::per_second(1_000_000, None), Instant::now());
        for i in 0..20_000_u32 {
            assert_eq!(shares.take(IpAddr::from(i.to_be_bytes()), start), Ok(()));
        }
        assert_eq!(shares.given.lock().customers.len(), TOLD_APART + 1);
        assert_eq!(shares.take(ip(GREEDY), start + Duration::from_secs(2)), Ok(()));
        assert_eq!(shares.given.lock().customers.len(), 1);
    }
}
