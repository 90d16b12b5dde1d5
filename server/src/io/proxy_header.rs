//! The header with which a proxy, or a server that takes the place of another, says whose connection it passes on: the PROXY protocol, version 2
//! (<https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>, section 2.2).

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, Ipv6Addr},
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Peer;

/// How each header begins: what no HTTP request and no TLS handshake begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The longest rest of a header that is read. The addresses take 36 bytes; proxies may add what this server does not ask for.
const MAX_REST: usize = 1024;

/// Reads the header, and nothing behind it: the user's address. `None`: the proxy speaks for itself, as in a health check.
pub async fn read<R: AsyncRead + Unpin>(socket: &mut R) -> io::Result<Option<IpAddr>> {
    let wrong = |why: &str| io::Error::new(ErrorKind::InvalidData, why);
    let mut head = [0; 16];
    socket.read_exact(&mut head).await?;
    let [signature @ .., version, family, high, low] = head;
    if signature != SIGNATURE {
        return Err(wrong(
            "the connection does not begin with a PROXY header of version 2",
        ));
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_REST {
        return Err(wrong("the PROXY header is too long"));
    }
    let mut rest = vec![0; length];
    socket.read_exact(&mut rest).await?;
    match (version, family) {
        // LOCAL.
        (0x20, _) => Ok(None),
        // Over TCP; over what else is for the proxy to know.
        (0x21, 0x11) => match rest.first_chunk::<4>().filter(|_| length >= 12) {
            Some(&source) => Ok(Some(source.into())),
            None => Err(wrong("the PROXY header has no addresses")),
        },
        (0x21, 0x21) => match rest.first_chunk::<16>().filter(|_| length >= 36) {
            Some(&source) => Ok(Some(Ipv6Addr::from(source).to_canonical())),
            None => Err(wrong("the PROXY header has no addresses")),
        },
        (0x21, _) => Err(wrong("the PROXY header is not about a TCP connection")),
        _ => Err(wrong("the PROXY header is of another version")),
    }
}

/// Writes the header, in one piece. Ports and the own address are not told.
pub async fn write<W: AsyncWrite + Unpin>(socket: &mut W, peer: Peer) -> io::Result<()> {
    let mut header = SIGNATURE.to_vec();
    match peer {
        Peer::Ip(IpAddr::V4(source)) => {
            header.extend_from_slice(&[0x21, 0x11, 0, 12]);
            header.extend_from_slice(&source.octets());
            header.extend_from_slice(&[0; 8]);
        }
        Peer::Ip(IpAddr::V6(source)) => {
            header.extend_from_slice(&[0x21, 0x21, 0, 36]);
            header.extend_from_slice(&source.octets());
            header.extend_from_slice(&[0; 20]);
        }
        Peer::Unix | Peer::Successor => header.extend_from_slice(&[0x20, 0, 0, 0]),
    }
    socket.write_all(&header).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read() {
        for (peer, expected) in [
            (Peer::Ip([192, 0, 2, 7].into()), Some("192.0.2.7")),
            (
                Peer::Ip("2001:db8::7".parse().expect("valid")),
                Some("2001:db8::7"),
            ),
            (Peer::Unix, None),
        ] {
            let mut written = Vec::new();
            write(&mut written, peer).await.expect("memory");
            written.extend_from_slice(b"GET");
            let mut rest = &written[..];
            let read = read(&mut rest).await.expect("valid");
            assert_eq!(read, expected.map(|text| text.parse().expect("valid")));
            assert_eq!(rest, b"GET");
        }
    }
}
