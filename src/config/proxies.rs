//! Networks in CIDR, which name the trusted proxies.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    error::{CheckResult, Complaint},
    raw::Raw,
    value::{ConfigValue, mismatch, toml_string},
};

/// Bits in front of the IPv4 address in an IPv4-mapped IPv6 address.
const MAPPED: u8 = 96;

impl ConfigValue for IpNet {
    const KIND: &'static str = "an IP address or a network such as 10.0.0.0/8 or fd00::/8";

    fn parse(raw: &Raw) -> Result<Self, Complaint> {
        let text = raw.text().map(str::trim);
        let net = text.and_then(|text| text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(Self::from)));
        net.map(canonical).ok_or_else(|| mismatch(raw.quote_or_kind(), Self::KIND))
    }

    fn shown(&self) -> Option<String> {
        Some(toml_string(&self.to_string()))
    }
}

/// A network in IPv4 where it is mapped, since peers are compared that way.
fn canonical(net: IpNet) -> IpNet {
    let bits = net.prefix_len().checked_sub(MAPPED);
    match (net.addr().to_canonical(), bits) {
        // `::ffff:10.0.0.0/104` is 10.0.0.0/8. A shorter prefix covers more than the mapped addresses, and stays as
        // it is.
        (v4 @ IpAddr::V4(_), Some(bits)) if net.addr().is_ipv6() => IpNet::new(v4, bits).unwrap_or(net).trunc(),
        (IpAddr::V4(_) | IpAddr::V6(_), _) => net.trunc(),
    }
}

/// Refuses a network of all addresses: a trusted proxy decides about a client's address.
pub(super) fn narrow(net: &IpNet) -> CheckResult {
    if net.prefix_len() > 0 {
        return Ok(());
    }
    Err(Complaint::new(
        format!("{net} is everybody, so every client could say where it comes from"),
        "name the addresses or networks of your proxies only",
    ))
}
