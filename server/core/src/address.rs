//! Where a user is, as far as it tells users apart, in eight bytes: there is one for each session.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv4 address, or the /64 network of an IPv6 address: one IPv6 user usually has a whole one. An IPv4 address is a
/// number of 32 bits; a network is its 64 bits, of which the first 32 are never zero but for loopback
/// (<https://www.iana.org/assignments/ipv6-address-space>), which counts as 127.0.0.1. Zero: not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UserAddress(pub(crate) u64);

impl From<IpAddr> for UserAddress {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            address if address.is_loopback() && address.is_ipv6() => {
                u32::from(Ipv4Addr::LOCALHOST).into()
            }
            IpAddr::V4(address) => u32::from(address).into(),
            IpAddr::V6(address) => u64::try_from(address.to_bits() >> 64).unwrap_or_default(),
        })
    }
}

impl UserAddress {
    /// The address, or the first of the network.
    pub fn ip(self) -> Option<IpAddr> {
        match u32::try_from(self.0) {
            Ok(0) => None,
            Ok(address) => Some(Ipv4Addr::from(address).into()),
            Err(_) => Some(Ipv6Addr::from_bits(u128::from(self.0) << 64).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_comes_back_as_it_is_counted() {
        for (given, counted) in [
            ("203.0.113.7", Some("203.0.113.7")),
            ("::ffff:203.0.113.7", Some("203.0.113.7")),
            ("2001:db8:1:2:3:4:5:6", Some("2001:db8:1:2::")),
            ("::1", Some("127.0.0.1")),
            ("0.0.0.0", None),
        ] {
            let address = UserAddress::from(given.parse::<IpAddr>().expect("valid"));
            let counted = counted.map(|text| text.parse().expect("valid"));
            assert_eq!(address.ip(), counted, "{given}");
        }
        assert_eq!(UserAddress::default().ip(), None);
    }
}
