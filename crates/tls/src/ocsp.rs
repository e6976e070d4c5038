//! Whether the bytes of a file are an OCSP answer that can be passed on.
//!
//! Only the outer frame is read: that it is DER, that the responder answered at all. Whether the answer is signed rightly
//! and fresh is for the client to judge; it has the certificate of the signer, and we would say the same.

use crate::fault::{Fault, Part, Warning};

/// OCSPResponse ::= SEQUENCE { responseStatus ENUMERATED, responseBytes [0] EXPLICIT … OPTIONAL } (RFC 6960, 4.2.1).
pub(crate) fn read(bytes: &[u8], now: u64, warnings: &mut Vec<Warning>) -> Result<Vec<u8>, Fault> {
    let not_der = |what: &str| {
        Fault::new(Part::Ocsp, "ocsp_not_der", what, "write it with openssl ocsp -respout FILE; it is DER, not PEM")
    };
    let Some((0x30, content, [])) = element(bytes) else {
        return Err(not_der("is not an OCSP answer in DER"));
    };
    let Some((0x0a, [status], rest)) = element(content) else {
        return Err(not_der("is DER, but not an OCSP answer"));
    };
    if *status != 0 || rest.is_empty() {
        return Err(Fault::new(
            Part::Ocsp,
            "ocsp_refused",
            format!("is an answer in which the responder refuses to say anything (status {status})"),
            "ask the responder again, or leave ocsp out until it answers",
        ));
    }
    if let Some(until) = next_update(bytes)
        && until < now
    {
        warnings.push(Warning::new(
            Part::Ocsp,
            "ocsp_expired",
            "is an answer whose time is over",
            "fetch a new one and reload; clients take an old one for a broken one",
        ));
    }
    Ok(bytes.to_vec())
}

/// The latest time named in the answer. producedAt, thisUpdate and nextUpdate are the only times outside the signer's
/// certificate, and nextUpdate is the last of them to come; without it the answer has no end.
fn next_update(bytes: &[u8]) -> Option<u64> {
    let (_, response, _) = element(bytes)?;
    let (_, _status, rest) = element(response)?;
    let (_, response_bytes, _) = element(rest)?;
    let (_, typed, _) = element(response_bytes)?;
    let (_, _oid, rest) = element(typed)?;
    let (0x04, basic, _) = element(rest)? else { return None };
    let (_, basic, _) = element(basic)?;
    let (0x30, mut data, _) = element(basic)? else { return None };
    // ResponseData: version [0]?, responderID, producedAt, responses.
    loop {
        let (tag, content, rest) = element(data)?;
        data = rest;
        if tag != 0x30 {
            continue;
        }
        // SingleResponse: certID, certStatus, thisUpdate, nextUpdate [0]?
        let (0x30, single, _) = element(content)? else { continue };
        let (_, _id, rest) = element(single)?;
        let (_, _status, rest) = element(rest)?;
        let (0x18, _this_update, rest) = element(rest)? else { return None };
        let (0xa0, next, _) = element(rest)? else { return None };
        let (0x18, time, _) = element(next)? else { return None };
        return generalized_time(time);
    }
}

/// `20261122203951Z` in seconds since 1970.
fn generalized_time(text: &[u8]) -> Option<u64> {
    let number =
        |range: std::ops::Range<usize>| -> Option<u64> { std::str::from_utf8(text.get(range)?).ok()?.parse().ok() };
    let (year, month, day) = (number(0..4)?, number(4..6)?, number(6..8)?);
    let (hour, minute, second) = (number(8..10)?, number(10..12)?, number(12..14)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since 1970-03-01 in years that begin in March, so that the leap day comes last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    let days = days.checked_sub(DAYS_TO_1970)?;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Days from the first of March of the year 0 to 1970-01-01.
const DAYS_TO_1970: u64 = 719_468;

/// Tag, content and what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_since_1970() {
        let table: [(&[u8], u64); 4] = [
            (b"19700101000000Z", 0),
            (b"20000229235959Z", 951_868_799),
            (b"20261122203951Z", 1_795_379_991),
            (b"21000301000000Z", 4_107_542_400),
        ];
        for (text, seconds) in table {
            assert_eq!(generalized_time(text), Some(seconds), "{}", String::from_utf8_lossy(text));
        }
        for broken in [&b"2026"[..], b"20261322203951Z", b"notatime000000Z", b""] {
            assert_eq!(generalized_time(broken), None);
        }
    }
}
