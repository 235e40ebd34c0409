//! Base64 (RFC 4648), encoded words (RFC 2047) and dates (RFC 5322), for mail.

use stead_model::status::Timestamp;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// Bytes that one encoded word holds.
const WORD_BYTES_MAX: usize = 45;
/// Longest subject.
const SUBJECT_CHARS_MAX: usize = 200;

pub(super) fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let all = chunk.iter().enumerate().fold(0_u32, |all, (at, byte)| all | u32::from(*byte) << (16 - 8 * at));
        for at in 0..4 {
            let letter = ALPHABET[(all >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= chunk.len() { letter as char } else { '=' });
        }
    }
    text
}

/// Base64 in lines that mail servers take.
pub(super) fn base64_lines(bytes: &[u8]) -> String {
    bytes.chunks(57).map(|line| base64(line) + "\r\n").collect()
}

/// A subject of any characters, on as many lines as it needs.
pub(super) fn subject(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let text: String = text.chars().take(SUBJECT_CHARS_MAX).map(plain).collect();
    let mut words: Vec<String> = vec![String::new()];
    for c in text.chars() {
        if words.last().is_none_or(|word| word.len() + c.len_utf8() > WORD_BYTES_MAX) {
            words.push(String::new());
        }
        words.last_mut().expect("there is one").push(c);
    }
    words.iter().map(|word| format!("=?UTF-8?B?{}?=", base64(word.as_bytes()))).collect::<Vec<_>>().join("\r\n ")
}

/// `Fri, 20 Nov 2026 07:15:00 +0000`
pub(super) fn date(time: Timestamp) -> String {
    let shown = time.to_string();
    let day = DAYS[(time.0 / 86_400_000_000_000 % 7) as usize];
    let month = shown[5..7].parse().ok().and_then(|month: usize| MONTHS.get(month - 1)).unwrap_or(&"Jan");
    format!("{day}, {} {month} {} {} +0000", &shown[8..10], &shown[..4], &shown[11..19])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert!(base64_lines(&[7; 1000]).lines().all(|line| line.len() <= 76));
    }

    #[test]
    fn subjects_are_words_that_fit_on_their_lines() {
        assert_eq!(subject("late"), "=?UTF-8?B?bGF0ZQ==?=");
        let long = subject(&"paris → lyon\n".repeat(9));
        assert!(long.lines().count() > 1 && long.lines().all(|line| line.len() <= 76), "{long}");
    }

    #[test]
    fn dates_have_their_day() {
        assert_eq!(date("2026-11-20T07:15:00.000Z".parse().unwrap()), "Fri, 20 Nov 2026 07:15:00 +0000");
        assert_eq!(date(Timestamp(0)), "Thu, 01 Jan 1970 00:00:00 +0000");
    }
}
