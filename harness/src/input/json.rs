//! The values of a file of another program, as that program reads them: LiteLLM's YAML is version 1.1, in which
//! more words than in version 1.2 are truth values and numbers.

use serde_json::{Map, Number, Value};

use super::checker::Checker;
use super::problem::Place;
use super::tree::{Content, Node, Scalar};

/// What a node is to YAML 1.1. What JSON cannot say (infinity) stays text.
pub(crate) fn value(node: &Node) -> Value {
    match &node.content {
        Content::Scalar(scalar) => of_scalar(scalar),
        Content::List(items) => items.iter().map(value).collect(),
        Content::Mapping(entries) => {
            let pairs = entries.iter().map(|entry| (entry.key.value.clone(), value(&entry.value)));
            Value::Object(pairs.collect::<Map<_, _>>())
        }
        Content::Broken => Value::Null,
    }
}

fn of_scalar(scalar: &Scalar) -> Value {
    let text = scalar.text.as_str();
    if !scalar.plain {
        return text.into();
    }
    if scalar.is_null() {
        return Value::Null;
    }
    match text {
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return true.into(),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => return false.into(),
        _ => {}
    }
    number(text).map_or_else(|| text.into(), Value::Number)
}

/// A number of YAML 1.1: with `_` between digits, in bases 2, 8 and 16, and in base 60 with colons.
fn number(text: &str) -> Option<Number> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let first = unsigned.chars().next().filter(|c| c.is_ascii_digit() || *c == '.')?;
    // A fraction without a whole part takes no sign.
    if first == '.' && unsigned.len() != text.len() {
        return None;
    }
    let digits = unsigned.replace('_', "");
    let whole = |digits: &str, radix: u32| {
        let ok = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
        let number = if ok { i128::from_str_radix(digits, radix).ok()? } else { return None };
        signed(number, negative)
    };
    if let Some(binary) = digits.strip_prefix("0b") {
        return whole(binary, 2);
    }
    if let Some(hex) = digits.strip_prefix("0x") {
        return whole(hex, 16);
    }
    if unsigned.contains(':') {
        return sexagesimal(unsigned, &digits, negative);
    }
    if !digits.contains('.') {
        let octal = digits.len() > 1 && digits.starts_with('0');
        return whole(&digits, if octal { 8 } else { 10 });
    }
    // An exponent needs a fraction and a sign.
    let (mantissa, exponent) =
        digits.split_once(['e', 'E']).map_or((digits.as_str(), None), |(m, e)| (m, Some(e)));
    let good_mantissa = mantissa.chars().all(|c| c.is_ascii_digit() || c == '.') && mantissa.len() > 1;
    let good_exponent = exponent.is_none_or(|exponent| {
        exponent
            .strip_prefix(['+', '-'])
            .is_some_and(|e| !e.is_empty() && e.bytes().all(|b| b.is_ascii_digit()))
    });
    let float: f64 = if good_mantissa && good_exponent { digits.parse().ok()? } else { return None };
    Number::from_f64(if negative { -float } else { float })
}

fn signed(number: i128, negative: bool) -> Option<Number> {
    Number::from_i128(if negative { -number } else { number })
}

/// `12:30` is 750: each part is worth sixty of the next.
fn sexagesimal(unsigned: &str, digits: &str, negative: bool) -> Option<Number> {
    let mut parts = digits.split(':');
    let first = parts.next()?;
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !is_digits(first) || (unsigned.starts_with('0') && !digits.contains('.')) {
        return None;
    }
    let mut total: f64 = first.parse().ok()?;
    for part in parts {
        let whole = part.split('.').next().unwrap_or_default();
        if !is_digits(whole) || whole.len() > 2 || whole.parse::<u8>().ok()? > 59 {
            return None;
        }
        total = total * 60.0 + part.parse::<f64>().ok()?;
    }
    let total = if negative { -total } else { total };
    if digits.contains('.') {
        return Number::from_f64(total);
    }
    // Beyond this a float is no longer exact, and nobody means such a number.
    (total.abs() < 9e15).then(|| Number::from(total as i64))
}

/// Warns of a word that LiteLLM reads as another number than a person may think.
pub(crate) fn warn_of_surprise(place: Place, scalar: &Scalar, check: &mut Checker<'_>) {
    let value = of_scalar(scalar);
    let text = &scalar.text;
    let leading_zero = text.trim_start_matches(['-', '+']).strip_prefix('0');
    let octal = leading_zero.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    if value.is_number() && (octal || text.contains(':')) {
        check.warning(
            place,
            &format!("LiteLLM reads `{text}` as the number {value}"),
            format!("write `{value}`, or `\"{text}\"` if it is text"),
        );
    } else if value.is_string() && scalar.is_number() && !text.contains("inf") && !text.contains("nan") {
        check.warning(
            place,
            &format!("LiteLLM reads `{text}` as text, not as a number"),
            "write the number without an exponent, or with a fraction and a sign: `1.0e+3`",
        );
    }
}
