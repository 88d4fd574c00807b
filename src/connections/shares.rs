//! Fair shares of one rate between customers. A single customer may have all of it, since a proxy or a carrier in front
//! of many users looks like one customer. When others ask as well, a customer that took more than an equal share of the
//! last second is the first to be refused, so that one customer that takes every handshake keeps no newcomer out.
//!
//! The rate is a token bucket, and so is each customer's share of it. When the rate's bucket is empty, customers within
//! their share get some more on credit, which is paid back before anything is left for those beyond their share. So a
//! newcomer gets in at once, and in the long run no more than the rate is given.
//!
//! Customers that each take exactly their share use up the whole rate, and would keep the credit used up too. The
//! second half of the credit is therefore for customers within half their share: these take at most half the rate, so
//! the other half pays back the credit, and the next newcomer finds some.
//!
//! Against as many customers as the rate has handshakes in a second none of this helps: they look like a crowd, and a
//! newcomer gets in as often as each of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::slots::network_of;
use crate::rate::{Rate, TokenBucket};

/// Most customers with a share of their own: three mebibytes of memory. Only customers that were given something in the
/// last second count, so at the default rate there are far fewer. Customers beyond this number have one share together.
const TOLD_APART: usize = 16_384;
/// How often customers that were given nothing for a second are removed; until then they count among the askers.
const FORGET_EVERY: Duration = Duration::from_millis(250);
/// Credit for customers within half their share: half a second's worth, which is above what newcomers ask in a moment,
/// and no more than a node can bear once.
const CREDIT: Duration = Duration::from_millis(500);
/// Credit for customers within their whole share.
const HALF_CREDIT: Duration = CREDIT.checked_div(2).expect("two is not zero");

/// One rate and its fair shares; see the module.
#[derive(Debug)]
pub struct AddressShares {
    /// The rate of all customers together.
    per_second: u32,
    /// The most for one customer, even if no other asks.
    cap: Option<Rate>,
    /// One lock for all customers, since each share depends on the number of askers.
    given: Mutex<AdmittedCounts>,
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareRefused {
    /// The rate is used up, also by customers within their share.
    All,
    /// This customer had its share, and the rest is for others.
    Share,
}

/// The state of the last second.
#[derive(Debug, Default)]
struct AdmittedCounts {
    /// The rate of all.
    all: TokenBucket,
    /// By address; the customers beyond [`TOLD_APART`] share the key `None`.
    customers: HashMap<Option<IpAddr>, AddressUse>,
    /// When customers were removed last.
    forgot: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default)]
struct AddressUse {
    /// What is left of its equal share.
    share: TokenBucket,
    /// What is left of half of it.
    half_share: TokenBucket,
    /// What is left of the cap per customer.
    capped: TokenBucket,
}

/// The rates of one customer at the present number of askers.
#[derive(Clone, Copy, Debug)]
struct FairRate {
    /// An equal part of the rate.
    share: Rate,
    /// Half of that.
    half_share: Rate,
    cap: Option<Rate>,
}

impl AddressShares {
    /// Makes shares of a rate of `times` per second, of which a second's worth may come at once; `cap` bounds one
    /// customer.
    #[must_use]
    pub fn per_second(times: u32, cap: Option<u32>) -> Self {
        Self { per_second: times, cap: cap.map(Rate::per_second), given: Mutex::default() }
    }

    /// Takes one from the rate for a client.
    ///
    /// # Errors
    /// Why there is none for it.
    pub fn take_share(&self, client: IpAddr, now: Instant) -> Result<(), ShareRefused> {
        let mut given = self.given.lock();
        given.drop_expired(now);
        let key = given.address_key(network_of(client));
        // This customer counts too, even if it has no entry yet: shares are equal parts of the rate.
        let askers = given.customers.len() + usize::from(!given.customers.contains_key(&key));
        let (all, portion) = (Rate::per_second(self.per_second), self.fair_rate(askers));
        // A copy, written back only on success: a refusal must cost the customer nothing.
        let mut its = given.customers.get(&key).copied().unwrap_or_default();
        if portion.cap.is_some_and(|cap| !its.capped.has_token(cap, now)) {
            return Err(ShareRefused::Share);
        }
        // A single asker has the whole rate and takes nothing from others, so it gets no credit.
        let credit = if askers > 1 { its.credit_limit(portion, now) } else { None };
        if !given.all.take_token(all, now) && !credit.is_some_and(|credit| given.all.take_on_credit(all, credit, now)) {
            return Err(if credit.is_some() || askers == 1 { ShareRefused::All } else { ShareRefused::Share });
        }
        its.charge_handshake(portion, now);
        given.customers.insert(key, its);
        Ok(())
    }

    fn fair_rate(&self, askers: usize) -> FairRate {
        let askers = u32::try_from(askers).unwrap_or(u32::MAX);
        let part = |of: u32| Rate::per_second(self.per_second / of);
        FairRate { share: part(askers), half_share: part(askers.saturating_mul(2)), cap: self.cap }
    }
}

impl AddressUse {
    /// Gives the credit that the customer may use.
    fn credit_limit(&self, portion: FairRate, now: Instant) -> Option<Duration> {
        if self.half_share.has_token(portion.half_share, now) {
            return Some(CREDIT);
        }
        self.share.has_token(portion.share, now).then_some(HALF_CREDIT)
    }

    fn charge_handshake(&mut self, portion: FairRate, now: Instant) {
        self.share.take_or_empty(portion.share, now);
        self.half_share.take_or_empty(portion.half_share, now);
        if let Some(cap) = portion.cap {
            self.capped.take_or_empty(cap, now);
        }
    }

    fn has_had_nothing(&self, now: Instant) -> bool {
        [self.share, self.half_share, self.capped].iter().all(|bucket| bucket.is_full(now))
    }
}

impl AdmittedCounts {
    fn address_key(&self, ip: IpAddr) -> Option<IpAddr> {
        // A customer that has an entry keeps it; only further ones are put together.
        let is_told_apart = self.customers.len() < TOLD_APART || self.customers.contains_key(&Some(ip));
        is_told_apart.then_some(ip)
    }

    fn drop_expired(&mut self, now: Instant) {
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
    fn given(shares: &AddressShares, client: IpAddr, from: Instant, asks: u32) -> u32 {
        let at = |i| from + Duration::from_secs(1) * i / asks;
        (0..asks).map(|i| u32::from(shares.take_share(client, at(i)).is_ok())).sum()
    }

    #[test]
    fn a_customer_alone_has_the_whole_rate() {
        let (shares, start) = (AddressShares::per_second(100, None), Instant::now());
        assert!(
            (199..=201).contains(&given(&shares, ip(GREEDY), start, 10_000)),
            "a second's worth at once, and the rate"
        );
        for second in 1..5 {
            let from = start + Duration::from_secs(second);
            assert!((99..=101).contains(&given(&shares, ip(GREEDY), from, 10_000)), "second {second}");
        }
        let last = (0..3).map(|_| shares.take_share(ip(GREEDY), start + Duration::from_secs(5))).last();
        assert_eq!(last, Some(Err(ShareRefused::All)), "no other asks");
    }

    #[test]
    fn a_newcomer_comes_in_at_once_beside_one_that_takes_everything() {
        let (shares, start) = (AddressShares::per_second(100, None), Instant::now());
        let mut taken = 0;
        for tick in 0..20_000_u32 {
            let now = start + Duration::from_millis(1) / 2 * tick;
            taken += u32::from(shares.take_share(ip(GREEDY), now).is_ok());
            if tick >= 300 && tick % 50 == 49 {
                let newcomer = ip(&format!("198.51.100.{}", tick / 50 % 250));
                assert_eq!(shares.take_share(newcomer, now), Ok(()), "at tick {tick}");
                assert_eq!(shares.take_share(ip(GREEDY), now), Err(ShareRefused::Share), "at tick {tick}");
            }
        }
        assert!((700..=720).contains(&taken), "of 1000 + 100 the newcomers had 394, and it the rest: {taken}");
    }

    #[test]
    fn two_that_want_everything_have_half_each() {
        let (shares, start) = (AddressShares::per_second(100, None), Instant::now());
        let early = given(&shares, ip(GREEDY), start, 1000);
        assert!(early >= 100);
        let mut taken = [0, 0];
        for tick in 0..10_000_u32 {
            let now = start + Duration::from_secs(1) + Duration::from_millis(1) * tick;
            // The one asks ten times as often as the other.
            taken[0] += (0..10).map(|_| u32::from(shares.take_share(ip(GREEDY), now).is_ok())).sum::<u32>();
            taken[1] += u32::from(shares.take_share(ip("198.51.100.1"), now).is_ok());
        }
        assert!(taken[1] >= 480, "{taken:?}");
        assert!((990..=1060).contains(&taken.iter().sum::<u32>()), "the rate, and the credit once: {taken:?}");
    }

    #[test]
    fn a_newcomer_comes_in_at_once_beside_many_that_take_everything() {
        for greedy in [2, 3, 10, 50, 90] {
            let (shares, start) = (AddressShares::per_second(100, None), Instant::now());
            let (mut taken, mut came) = (0, 0);
            for tick in 0..5_000_u32 {
                let now = start + Duration::from_millis(2) * tick;
                // The first has used up the rate when the second comes, and so on.
                let there = greedy.min(1 + tick / 15);
                taken += (0..there).filter(|i| shares.take_share(ip(&format!("203.0.113.{i}")), now).is_ok()).count();
                if tick >= 2000 && tick % 750 == 0 {
                    let newcomer = ip(&format!("198.51.100.{}", tick / 750));
                    assert_eq!(shares.take_share(newcomer, now), Ok(()), "beside {greedy} at tick {tick}");
                    came += 1;
                }
            }
            assert!(came == 4 && (950..=1150).contains(&(taken + came)), "{greedy}: {taken} and {came}");
        }
    }

    #[test]
    fn many_newcomers_are_given_no_more_than_the_rate_and_the_credit() {
        let (shares, start) = (AddressShares::per_second(100, None), Instant::now());
        let newcomer = |i: u32| IpAddr::V6(Ipv6Addr::from_bits(u128::from(i) << 64));
        let at_once = (0..1000).filter(|i| shares.take_share(newcomer(*i), start).is_ok()).count();
        assert_eq!(at_once, 150);
        assert_eq!(shares.take_share(newcomer(5000), start), Err(ShareRefused::All));
        let later =
            (1000..6000).filter(|i| shares.take_share(newcomer(*i), start + Duration::from_secs(1)).is_ok()).count();
        assert_eq!(later, 100);
    }

    #[test]
    fn one_customer_may_be_capped() {
        let (shares, start) = (AddressShares::per_second(100, Some(5)), Instant::now());
        let six = ["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::4", "2001:db8::5", "2001:db8::6"];
        let taken: Vec<_> = six.iter().map(|from| shares.take_share(ip(from), start)).collect();
        assert_eq!(taken, [Ok(()), Ok(()), Ok(()), Ok(()), Ok(()), Err(ShareRefused::Share)]);
        assert_eq!(shares.take_share(ip("2001:db8:0:1::1"), start), Ok(()));
    }

    #[test]
    fn memory_is_bounded_and_the_quiet_are_forgotten() {
        let (shares, start) = (AddressShares::per_second(1_000_000, None), Instant::now());
        for i in 0..20_000_u32 {
            assert_eq!(shares.take_share(IpAddr::from(i.to_be_bytes()), start), Ok(()));
        }
        assert_eq!(shares.given.lock().customers.len(), TOLD_APART + 1);
        assert_eq!(shares.take_share(ip(GREEDY), start + Duration::from_secs(2)), Ok(()));
        assert_eq!(shares.given.lock().customers.len(), 1);
    }
}
