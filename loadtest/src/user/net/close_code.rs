//! The code in the server's close frame as sent: the WebSocket library replaces a forbidden code by 1002.

/// The first byte of a close frame.
const CLOSE: u8 = 0x88;

/// Reads the frames of a server (RFC 6455, section 5.2) up to the code of its close frame.
#[derive(Debug, Default)]
pub struct CloseCode {
    /// Bytes until the next frame.
    skip: u64,
    /// The header of a frame, as far as it has come.
    head: [u8; 10],
    come: u8,
    code: Option<u16>,
}

impl CloseCode {
    pub fn get(&self) -> Option<u16> {
        self.code
    }

    /// Takes the next bytes from the server.
    pub fn follow(&mut self, mut bytes: &[u8]) {
        loop {
            let skipped = bytes
                .len()
                .min(usize::try_from(self.skip).unwrap_or(usize::MAX));
            self.skip -= skipped as u64;
            bytes = &bytes[skipped..];
            let Some((first, rest)) = bytes.split_first() else {
                return;
            };
            self.head[usize::from(self.come)] = *first;
            self.come += 1;
            bytes = rest;
            if let Some(skip) = self.payload_left() {
                self.skip = skip;
                self.come = 0;
            }
        }
    }

    /// The bytes that are left of the frame, once its header is complete.
    fn payload_left(&mut self) -> Option<u64> {
        let short = u64::from(self.head[1] & 0x7f);
        match (&self.head[..usize::from(self.come)], short) {
            ([] | [_], _) => None,
            ([CLOSE, _, high, low], 2..=125) => {
                self.code = Some(u16::from_be_bytes([*high, *low]));
                Some(short - 2)
            }
            ([CLOSE, ..], 2..=125) => None,
            ([_, _, high, low], 126) => Some(u16::from_be_bytes([*high, *low]).into()),
            ([_, _, len @ ..], 127) => Some(u64::from_be_bytes(len.try_into().ok()?)),
            (_, 126) => None,
            _ => Some(short),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_found_behind_frames_of_all_lengths_however_they_are_cut() {
        let frame = |first: u8, len: &[u8], size| [&[first][..], len, &vec![CLOSE; size]].concat();
        let mut bytes = [
            frame(0x81, &[0], 0),
            frame(0x82, &[5], 5),
            frame(0x81, &[126, 1, 0], 256),
            frame(0x81, &[127, 0, 0, 0, 0, 0, 1, 0, 0], 65_536),
            frame(0x89, &[3], 3),
        ]
        .concat();
        bytes.extend([CLOSE, 4, 0x13, 0x88, b'n', b'o']);
        for cut in [1, 7, 127, bytes.len()] {
            let mut close = CloseCode::default();
            let (frames, end) = bytes.split_at(bytes.len() - 6);
            frames.chunks(cut).for_each(|part| close.follow(part));
            assert_eq!(close.get(), None, "{cut}");
            end.chunks(cut).for_each(|part| close.follow(part));
            assert_eq!(close.get(), Some(5000), "{cut}");
        }
        let mut close = CloseCode::default();
        close.follow(&[CLOSE, 0]);
        assert_eq!(close.get(), None, "none was sent");
    }
}
