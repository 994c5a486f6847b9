//! Whether bytes are a whole X.509 certificate of version 3: every part that OpenSSL looks at when it reads one.
//!
//! x509-parser, which reads Secrets, leaves names undecoded and takes what DER does not allow, as a reader should that has to
//! take a certificate apart; here only what OpenSSL would refuse matters, and this must never take that.
//! rustls reads only what it needs to trust a certificate, and passes over names, dates and keys; OpenSSL does not.
//! Nothing is taken out of the certificate, so there are only yes and no. DER only (ITU-T X.690), with the string types
//! that names are written in today (RFC 5280, 4.1.2.4).

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const NULL: u8 = 0x05;
const OBJECT_ID: u8 = 0x06;
const BOOLEAN: u8 = 0x01;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const IA5_STRING: u8 = 0x16;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const VERSION_3: &[u8] = &[INTEGER, 1, 2];

pub(super) fn is_certificate(der: &[u8]) -> bool {
    certificate(der).is_some()
}

/// What is left to read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// The next element, whatever it is: its tag and its contents.
    fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
                let length = digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
                // The shortest form only.
                if digits.first() == Some(&0) || length < 0x80 {
                    return None;
                }
                (length, rest)
            }
            _ => return None,
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, contents))
    }

    fn next(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.any().filter(|(found, _)| *found == tag).map(|(_, contents)| contents)
    }

    /// The next element's contents, all of which `read` must take.
    fn inside(&mut self, tag: u8, read: impl FnOnce(&mut Input<'a>) -> Option<()>) -> Option<()> {
        let mut contents = Input(self.next(tag)?);
        read(&mut contents)?;
        contents.is_empty().then_some(())
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn begins(&self, tag: u8) -> bool {
        self.0.first() == Some(&tag)
    }
}

fn certificate(der: &[u8]) -> Option<()> {
    let mut input = Input(der);
    input.inside(SEQUENCE, |certificate| {
        certificate.inside(SEQUENCE, to_be_signed)?;
        algorithm(certificate)?;
        bits(certificate)
    })?;
    input.is_empty().then_some(())
}

fn to_be_signed(input: &mut Input<'_>) -> Option<()> {
    input.next(VERSION).filter(|version| *version == VERSION_3)?;
    integer(input)?;
    algorithm(input)?;
    name(input)?;
    input.inside(SEQUENCE, |validity| {
        time(validity)?;
        time(validity)
    })?;
    name(input)?;
    input.inside(SEQUENCE, |key| {
        algorithm(key)?;
        bits(key)
    })?;
    if !input.begins(EXTENSIONS) {
        return Some(());
    }
    input.inside(EXTENSIONS, |wrapped| wrapped.inside(SEQUENCE, |all| each(all, extension)))
}

/// One at least.
fn each<'a>(input: &mut Input<'a>, read: impl Fn(&mut Input<'a>) -> Option<()>) -> Option<()> {
    read(input)?;
    while !input.is_empty() {
        read(input)?;
    }
    Some(())
}

fn extension(input: &mut Input<'_>) -> Option<()> {
    input.inside(SEQUENCE, |extension| {
        object_id(extension.next(OBJECT_ID)?)?;
        if extension.begins(BOOLEAN) {
            extension.next(BOOLEAN).filter(|critical| *critical == [0xff])?;
        }
        extension.next(OCTET_STRING).map(drop)
    })
}

fn name(input: &mut Input<'_>) -> Option<()> {
    input.inside(SEQUENCE, |name| {
        while !name.is_empty() {
            name.inside(SET, |set| each(set, attribute))?;
        }
        Some(())
    })
}

fn attribute(input: &mut Input<'_>) -> Option<()> {
    input.inside(SEQUENCE, |attribute| {
        object_id(attribute.next(OBJECT_ID)?)?;
        let fits = match attribute.any()? {
            (UTF8_STRING, value) => str::from_utf8(value).is_ok(),
            (PRINTABLE_STRING | IA5_STRING, value) => value.is_ascii(),
            _ => false,
        };
        fits.then_some(())
    })
}

fn algorithm(input: &mut Input<'_>) -> Option<()> {
    input.inside(SEQUENCE, |algorithm| {
        object_id(algorithm.next(OBJECT_ID)?)?;
        if algorithm.is_empty() {
            return Some(());
        }
        match algorithm.any()? {
            (NULL, []) | (SEQUENCE, _) => Some(()),
            (OBJECT_ID, contents) => object_id(contents),
            _ => None,
        }
    })
}

fn object_id(contents: &[u8]) -> Option<()> {
    const MORE: u8 = 0x80;
    contents.last().filter(|last| **last < MORE)?;
    // No number begins with a zero that only takes up room.
    let mut begins = true;
    for byte in contents {
        if begins && *byte == MORE {
            return None;
        }
        begins = *byte < MORE;
    }
    Some(())
}

fn integer(input: &mut Input<'_>) -> Option<()> {
    match input.next(INTEGER)? {
        [] | [0, 0..=0x7f, ..] | [0xff, 0x80..=0xff, ..] => None,
        [_, ..] => Some(()),
    }
}

fn bits(input: &mut Input<'_>) -> Option<()> {
    match input.next(BIT_STRING)? {
        [0, _, ..] => Some(()),
        [] | [_, ..] => None,
    }
}

fn time(input: &mut Input<'_>) -> Option<()> {
    let (tag, contents) = input.any()?;
    let (digits, zone) = contents.split_at_checked(if tag == UTC_TIME { 12 } else { 14 })?;
    let fits = matches!(tag, UTC_TIME | GENERALIZED_TIME) && zone == b"Z" && digits.iter().all(u8::is_ascii_digit);
    fits.then_some(())
}
