//! What an unquoted word means.

use super::{Kind, Problem};

pub(super) enum Scalar<'a> {
    Kind(Kind),
    /// The name without its `$`.
    Variable(&'a str),
}

/// A word that starts with a digit and is no number (`10s`, `127.0.0.1:4222`) is a string, and so is
/// a bcrypt hash although it starts with `$`.
pub(super) fn classify(word: &str) -> Result<Scalar<'_>, Problem> {
    if let Some(name) = word.strip_prefix('$')
        && !name.is_empty()
        && !is_bcrypt(word)
    {
        return Ok(Scalar::Variable(name));
    }
    if let Some(value) = boolean(word) {
        return Ok(Scalar::Kind(Kind::Boolean(value)));
    }
    if let Some(value) = integer(word)? {
        return Ok(Scalar::Kind(Kind::Integer(value)));
    }
    if let Some(value) = float(word)? {
        return Ok(Scalar::Kind(Kind::Float(value)));
    }
    if looks_like_date(word) {
        return if date_in_range(word) {
            Ok(Scalar::Kind(Kind::Date(word.to_owned())))
        } else {
            Err(Problem::Date)
        };
    }
    Ok(Scalar::Kind(Kind::String(word.to_owned())))
}

/// nats-server (`conf/parse.go`) knows the first prefix only, although its passwords may have any: no
/// variable is called like the others.
fn is_bcrypt(word: &str) -> bool {
    ["$2a$", "$2b$", "$2x$", "$2y$"]
        .iter()
        .any(|prefix| word.starts_with(prefix))
}

fn boolean(word: &str) -> Option<bool> {
    let is_one_of = |names: [&str; 3]| names.iter().any(|name| word.eq_ignore_ascii_case(name));
    if is_one_of(["true", "yes", "on"]) {
        Some(true)
    } else if is_one_of(["false", "no", "off"]) {
        Some(false)
    } else {
        None
    }
}

/// Sign, digits, and a suffix: one letter for powers of 1000, two or three for powers of 1024.
pub(super) fn integer(word: &str) -> Result<Option<i64>, Problem> {
    let digits_from = usize::from(word.starts_with(['-', '+']));
    let unsigned = &word[digits_from..];
    let digits = unsigned
        .find(|next: char| !next.is_ascii_digit())
        .unwrap_or(unsigned.len());
    let (number, suffix) = word.split_at(digits_from + digits);
    let Some(factor) = factor(suffix) else {
        return Ok(None);
    };
    if digits == 0 {
        return Ok(None);
    }
    let number: i64 = number.parse().map_err(|_| Problem::IntegerRange)?;
    number
        .checked_mul(factor)
        .map(Some)
        .ok_or(Problem::IntegerRange)
}

fn factor(suffix: &str) -> Option<i64> {
    let suffix = suffix.to_ascii_lowercase();
    let Some(letter) = suffix.chars().next() else {
        return Some(1);
    };
    let power = u32::try_from("kmgtpe".find(letter)?).ok()? + 1;
    match &suffix[1..] {
        "" => Some(1000_i64.pow(power)),
        "b" | "i" | "ib" => Some(1024_i64.pow(power)),
        _ => None,
    }
}

fn float(word: &str) -> Result<Option<f64>, Problem> {
    let unsigned = word.strip_prefix(['-', '+']).unwrap_or(word);
    let Some((whole, fraction)) = unsigned.split_once('.') else {
        return Ok(None);
    };
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(fraction) {
        return Ok(None);
    }
    if whole.is_empty() {
        return Err(Problem::FloatStart);
    }
    Ok(if is_digits(whole) {
        word.parse().ok()
    } else {
        None
    })
}

/// `2006-01-02T15:04:05Z`, each digit being any digit.
fn looks_like_date(word: &str) -> bool {
    const SHAPE: &[u8] = b"0000-00-00T00:00:00Z";
    word.len() == SHAPE.len()
        && word.bytes().zip(SHAPE).all(|(byte, shape)| {
            if *shape == b'0' {
                byte.is_ascii_digit()
            } else {
                byte == *shape
            }
        })
}

fn date_in_range(word: &str) -> bool {
    let field = |from: usize| word[from..from + 2].parse::<u8>().unwrap_or(u8::MAX);
    (1..=12).contains(&field(5))
        && (1..=31).contains(&field(8))
        && field(11) < 24
        && field(14) < 60
        && field(17) < 60
}
