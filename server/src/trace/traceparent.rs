//! The header `traceparent`, by which a client or a proxy names the trace that it is part of
//! (<https://www.w3.org/TR/trace-context/#traceparent-header>).

use hyper::HeaderMap;

/// The span to which a client's request belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) trace: u128,
    pub(super) span: u64,
    /// Whether the client traces.
    pub(super) sampled: bool,
}

/// Reads it; a wrong one counts as none, and so do several.
pub(super) fn read(headers: &HeaderMap) -> Option<Parent> {
    let mut values = headers.get_all("traceparent").iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let mut parts = value.to_str().ok()?.split('-');
    let mut hex = |digits| {
        let part = parts.next()?;
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (part.len() == digits && part.bytes().all(is_hex)).then_some(part)
    };
    let (version, trace, span, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
    // A later version may say more behind this, the first one may not.
    if version == "ff" || version == "00" && parts.next().is_some() {
        return None;
    }
    let parent = Parent {
        trace: u128::from_str_radix(trace, 16).ok()?,
        span: u64::from_str_radix(span, 16).ok()?,
        sampled: u8::from_str_radix(flags, 16).ok()? & 1 == 1,
    };
    (parent.trace != 0 && parent.span != 0).then_some(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_one(value: &str) -> Option<Parent> {
        let mut headers = HeaderMap::new();
        headers.append("traceparent", value.parse().expect("a header"));
        read(&headers)
    }

    /// The examples of the standard, and what it calls wrong.
    #[test]
    fn only_what_the_standard_allows_is_a_parent() {
        let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let parent = |sampled| {
            Some(Parent {
                trace: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736,
                span: 0x00f0_67aa_0ba9_02b7,
                sampled,
            })
        };
        assert_eq!(read_one(&format!("00-{trace}-{span}-01")), parent(true));
        assert_eq!(read_one(&format!("00-{trace}-{span}-00")), parent(false));
        assert_eq!(
            read_one(&format!("cc-{trace}-{span}-01-what")),
            parent(true)
        );
        for wrong in [
            "",
            "00",
            &format!("00-{trace}-{span}"),
            &format!("00-{trace}-{span}-01-what"),
            &format!("ff-{trace}-{span}-01"),
            &format!("00-{}-{span}-01", trace.to_uppercase()),
            &format!("00-{}-{span}-01", "0".repeat(32)),
            &format!("00-{trace}-{}-01", "0".repeat(16)),
            &format!("00-+{}-{span}-01", &trace[1..]),
        ] {
            assert_eq!(read_one(wrong), None, "{wrong}");
        }
        let value: hyper::header::HeaderValue =
            format!("00-{trace}-{span}-01").parse().expect("a header");
        let mut twice = HeaderMap::new();
        twice.append("traceparent", value.clone());
        twice.append("traceparent", value);
        assert_eq!(read(&twice), None);
    }
}
