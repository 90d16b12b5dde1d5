//! Reads lists of addresses.

use std::net::{IpAddr, Ipv4Addr};

/// No machine has more; a typing error must not fill the memory.
const MAX: u32 = 65_536;

/// Reads `A,B` and `A-B` (IPv4, both ends included). `None`: the text is something else, or empty.
pub fn parse(list: &str) -> Option<Vec<IpAddr>> {
    let mut addresses = Vec::new();
    for part in list.split(',').map(str::trim) {
        match part.split_once('-') {
            None => addresses.push(part.parse().ok()?),
            Some((first, last)) => {
                let [first, last] = [first, last].map(|end| end.trim().parse::<Ipv4Addr>().ok());
                let (first, last) = (u32::from(first?), u32::from(last?));
                let count = last.checked_sub(first)?;
                (count < MAX).then_some(())?;
                addresses.extend((first..=last).map(|ip| IpAddr::from(Ipv4Addr::from(ip))));
            }
        }
        (addresses.len() as u64 <= u64::from(MAX)).then_some(())?;
    }
    Some(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges_are_read() {
        let count = |list| parse(list).map(|found| found.len());
        assert_eq!(count("10.0.0.1"), Some(1));
        assert_eq!(count("10.0.0.1, ::1,10.0.0.3"), Some(3));
        assert_eq!(count("10.0.0.254-10.0.1.1"), Some(4));
        for bad in [
            "",
            "10.0.0",
            "10.0.0.2-10.0.0.1",
            "0.0.0.0-255.255.255.255",
            "10.0.0.0-10.0.255.255,10.1.0.0",
            "10.0.0.0-10.0.255.255,10.1.0.0-10.1.255.255",
            "a-b",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
