//! The latencies of a run: exact to three digits, in memory that does not grow with their number.

use std::{io::Read, time::Duration};

use flate2::read::ZlibDecoder;
use hdrhistogram::{
    Histogram,
    serialization::{Deserializer, Serializer, V2DeflateSerializer},
};
use serde::{Deserialize, Serialize};

use crate::record;

/// Longer latencies count as one hour.
const MAX_MICROS: u64 = 3_600_000_000;

/// The quantiles that a record holds, with their names.
const QUANTILES: [(&str, f64); 7] = [
    ("p50", 0.5),
    ("p75", 0.75),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
];

/// Latencies in microseconds, to three digits. Takes about 180 KB as soon as it is not empty, so never have one per user.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(into = "Option<String>", try_from = "Option<String>")]
pub struct Latencies(Option<Box<Histogram<u64>>>);

/// As [`record::Latency::histogram`] holds them.
impl From<Latencies> for Option<String> {
    fn from(latencies: Latencies) -> Self {
        latencies.0.as_ref().map(|histogram| encode(histogram))
    }
}

impl TryFrom<Option<String>> for Latencies {
    type Error = String;

    fn try_from(text: Option<String>) -> Result<Self, String> {
        let Some(text) = text else {
            return Ok(Self::default());
        };
        let bytes = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, text);
        let bytes = bytes.map_err(|error| format!("a histogram: {error}"))?;
        let bytes = inflated(&bytes).ok_or("a histogram: damaged")?;
        let theirs: Histogram<u64> = Deserializer::new()
            .deserialize(&mut bytes.as_slice())
            .map_err(|error| format!("a histogram: {error}"))?;
        // All histograms here must have the same bounds.
        let mut latencies = Self::default();
        for step in theirs.iter_recorded() {
            latencies.record_micros(step.value_iterated_to(), step.count_at_value());
        }
        Ok(latencies)
    }
}

impl Latencies {
    fn histogram(&mut self) -> &mut Histogram<u64> {
        self.0.get_or_insert_with(|| {
            let empty = Histogram::new_with_bounds(1, MAX_MICROS, 3);
            Box::new(empty.expect("the bounds are constants"))
        })
    }

    pub fn record(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.record_micros(micros, 1);
    }

    /// Records the same latency several times.
    pub fn record_micros(&mut self, micros: u64, times: u64) {
        self.histogram().saturating_record_n(micros, times);
    }

    pub fn merge(&mut self, other: &Self) {
        if let Some(theirs) = &other.0 {
            let merged = self.histogram().add(theirs.as_ref());
            merged.expect("all have the same bounds");
        }
    }

    pub fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, |histogram| histogram.len())
    }

    /// The latency that the fraction `q` did not exceed. `None`: nothing was recorded.
    pub fn quantile_ms(&self, q: f64) -> Option<f64> {
        let histogram = self.0.as_ref()?;
        Some(histogram.value_at_quantile(q) as f64 / 1e3)
    }

    pub fn max_ms(&self) -> Option<f64> {
        Some(self.0.as_ref()?.max() as f64 / 1e3)
    }

    pub fn mean_ms(&self) -> Option<f64> {
        Some(self.0.as_ref()?.mean() / 1e3)
    }

    /// Each latency that occurred, in rising microseconds, and how often.
    pub fn recorded(&self) -> impl Iterator<Item = (u64, u64)> {
        let histogram = self.0.iter();
        histogram.flat_map(|histogram| {
            let steps = histogram.iter_recorded();
            steps.map(|step| (step.value_iterated_to(), step.count_at_value()))
        })
    }

    /// `censored` of the latencies are lower bounds.
    pub fn to_record(&self, censored: u64) -> record::Latency {
        let quantile = |(name, q): (&str, f64)| Some((name.to_owned(), self.quantile_ms(q)?));
        record::Latency {
            count: self.count(),
            censored,
            quantiles_ms: QUANTILES.into_iter().filter_map(quantile).collect(),
            mean_ms: self.mean_ms().map(record::digits),
            max_ms: self.max_ms(),
            histogram: self.0.as_ref().map(|histogram| encode(histogram)),
        }
    }
}

/// Decompresses a histogram. `None`: it is damaged, or claims a length that would fill the memory.
fn inflated(bytes: &[u8]) -> Option<Vec<u8>> {
    const BEGIN: [u8; 4] = 0x1c84_9313_u32.to_be_bytes();
    const HEADER_BYTES: u64 = 40;
    const MAX_BYTES: u64 = 1 << 20;
    let mut inflated = Vec::new();
    let mut stream = ZlibDecoder::new(bytes.get(8..)?).take(MAX_BYTES);
    stream.read_to_end(&mut inflated).ok()?;
    let length = u32::from_be_bytes(inflated.get(4..8)?.try_into().ok()?);
    let all = u64::from(length) + HEADER_BYTES;
    (inflated.starts_with(&BEGIN) && all <= inflated.len() as u64).then_some(inflated)
}

fn encode(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    // Writing to a Vec cannot fail, and the bounds fit the format.
    let _ = V2DeflateSerializer::new().serialize(histogram, &mut bytes);
    base64::Engine::encode(&base64::prelude::BASE64_STANDARD, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_merged_whole() {
        let mut all = Latencies::default();
        for ms in 1..=1000 {
            let mut one = Latencies::default();
            one.record(Duration::from_millis(ms));
            all.merge(&one);
        }
        assert_eq!(all.count(), 1000);
        for (q, ms) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let got = all.quantile_ms(q).expect("not empty");
            assert!((got - ms).abs() <= ms * 0.001, "{q}: {got} is not {ms}");
        }
        assert_eq!(all.recorded().map(|(_, count)| count).sum::<u64>(), 1000);
        assert_eq!(Latencies::default().quantile_ms(0.5), None);
    }

    #[test]
    fn a_damaged_histogram_is_an_error_and_no_burden() {
        let mut latencies = Latencies::default();
        latencies.record(Duration::from_millis(7));
        let text = Option::<String>::from(latencies.clone()).expect("not empty");
        let back = Latencies::try_from(Some(text.clone())).expect("good");
        assert_eq!((back.count(), back.max_ms()), (1, latencies.max_ms()));
        let decoded = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, &text);
        let whole = inflated(&decoded.expect("base64")).expect("good");
        let packed = |inner: &[u8]| {
            use flate2::{Compression, write::ZlibEncoder};
            use std::io::Write as _;
            let mut bytes = ZlibEncoder::new(
                vec![0x1c, 0x84, 0x93, 0x14, 0, 0, 4, 0],
                Compression::fast(),
            );
            bytes.write_all(inner).expect("a Vec");
            let bytes = bytes.finish().expect("a Vec");
            base64::Engine::encode(&base64::prelude::BASE64_STANDARD, bytes)
        };
        assert!(Latencies::try_from(Some(packed(&whole))).is_ok());
        let mut long = whole.clone();
        long[4..8].fill(0xff);
        let bomb = vec![0; 50 << 20];
        for bad in [
            packed(&long),
            packed(&bomb),
            packed(&whole[..20]),
            "?".to_owned(),
        ] {
            assert!(Latencies::try_from(Some(bad)).is_err());
        }
    }

    #[test]
    fn what_a_record_holds_reads_back() {
        let mut latencies = Latencies::default();
        for ms in [1, 2, 3, 5000] {
            latencies.record(Duration::from_millis(ms));
        }
        let text = latencies.to_record(1).histogram.expect("not empty");
        let bytes = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, text);
        let back: Histogram<u64> = Deserializer::new()
            .deserialize(&mut bytes.expect("base64").as_slice())
            .expect("an HDR histogram");
        assert_eq!(
            (back.len(), back.max()),
            (4, latencies.0.expect("filled").max())
        );
    }
}
