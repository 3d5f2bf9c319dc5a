//! How are conditions written? `wifi`, `latency=60ms,loss=2%`, or `cellular,loss=5%`.

use core::{fmt, str::FromStr, time::Duration};

use super::Conditions;

/// The longest latency and jitter that can be written.
const LONGEST: Duration = Duration::from_secs(10);
/// Bytes a second of 1 kbit/s.
const KBIT: f64 = 125.0;

/// The presets by their names.
const PRESETS: [(&str, Conditions); 5] = [
    ("perfect", Conditions::PERFECT),
    ("lan", Conditions::LAN),
    ("wifi", Conditions::WIFI),
    ("cellular", Conditions::CELLULAR),
    ("terrible", Conditions::TERRIBLE),
];

/// What was written is no condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "N0013: `{word}` is no condition of a path: write a preset (perfect, lan, wifi, cellular, terrible) or any of \
     latency=60ms, jitter=5ms (up to 10s), loss=2%, duplication=1%, reordering=1%, bandwidth=200kbit (or mbit), with \
     commas between them"
)]
pub struct ConditionsError {
    /// The part that cannot be read.
    pub word: String,
}

impl Conditions {
    /// The presets and their names, the best first.
    pub const fn presets() -> &'static [(&'static str, Self)] {
        &PRESETS
    }

    /// The name of the preset that these are, if they are one.
    pub fn name(&self) -> Option<&'static str> {
        PRESETS.iter().find(|(_, preset)| preset == self).map(|(name, _)| *name)
    }
}

/// Reads a preset, or what differs from a perfect path, or a preset and what differs from it; capitals do not matter.
///
/// ```
/// use std::time::Duration;
/// use coplay_proto::conditioner::Conditions;
///
/// assert_eq!("wifi".parse(), Ok(Conditions::WIFI));
/// let worse = Conditions { loss: 0.05, ..Conditions::WIFI };
/// assert_eq!("wifi, loss=5%".parse(), Ok(worse));
/// let narrow: Conditions = "latency=30ms, bandwidth=200kbit".parse()?;
/// assert_eq!((narrow.latency, narrow.bandwidth), (Duration::from_millis(30), Some(25_000)));
/// # Ok::<(), coplay_proto::conditioner::ConditionsError>(())
/// ```
impl FromStr for Conditions {
    type Err = ConditionsError;

    fn from_str(text: &str) -> Result<Self, ConditionsError> {
        let mut conditions = Self::PERFECT;
        for (at, word) in text.split(',').map(str::trim).enumerate() {
            let known = match word.split_once('=') {
                Some((key, value)) => change(&mut conditions, key.trim(), value.trim()),
                None => preset(word).filter(|_| at == 0).map(|preset| conditions = preset),
            };
            known.ok_or_else(|| ConditionsError { word: word.to_owned() })?;
        }
        Ok(conditions)
    }
}

/// Writes what [`FromStr`] reads. Bursts and queues have no words: they are those of the preset.
impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.name() {
            return f.write_str(name);
        }
        write!(f, "latency={:?},jitter={:?},loss={}%", self.latency, self.jitter, percent(self.loss))?;
        for (key, share) in [("duplication", self.duplication), ("reordering", self.reordering)] {
            if share > 0.0 {
                write!(f, ",{key}={}%", percent(share))?;
            }
        }
        match self.bandwidth {
            Some(bandwidth) => write!(f, ",bandwidth={}kbit", f64::from(bandwidth) / KBIT),
            None => Ok(()),
        }
    }
}

fn preset(name: &str) -> Option<Conditions> {
    PRESETS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, preset)| *preset)
}

fn change(conditions: &mut Conditions, key: &str, value: &str) -> Option<()> {
    let value = value.to_ascii_lowercase();
    match key.to_ascii_lowercase().as_str() {
        "latency" => conditions.latency = time(&value)?,
        "jitter" => conditions.jitter = time(&value)?,
        "loss" => conditions.loss = share(&value)?,
        "duplication" => conditions.duplication = share(&value)?,
        "reordering" => conditions.reordering = share(&value)?,
        "bandwidth" => {
            let bandwidth = bandwidth(&value)?;
            conditions.bandwidth = Some(bandwidth);
            // As home routers have it: a fifth of a second, and a few datagrams at the least.
            conditions.queue = (bandwidth as usize / 5).max(6_000);
        }
        _ => return None,
    }
    Some(())
}

fn time(value: &str) -> Option<Duration> {
    let time = match value.strip_suffix("ms") {
        Some(ms) => number(ms)? / 1_000.0,
        None => number(value.strip_suffix('s')?)?,
    };
    Duration::try_from_secs_f64(time).ok().filter(|time| *time <= LONGEST)
}

fn share(value: &str) -> Option<f64> {
    let percent = number(value.strip_suffix('%')?)?;
    (percent <= 100.0).then_some(percent / 100.0)
}

fn bandwidth(value: &str) -> Option<u32> {
    let kbit = match value.strip_suffix("mbit") {
        Some(mbit) => number(mbit)? * 1_000.0,
        None => number(value.strip_suffix("kbit")?)?,
    };
    let bytes = kbit * KBIT;
    (bytes >= 1.0 && bytes <= f64::from(u32::MAX)).then_some(bytes as u32)
}

fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0)
}

fn percent(share: f64) -> f64 {
    (share * 1e6).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_read_by_its_name_and_written_by_it() {
        for (name, preset) in Conditions::presets() {
            assert_eq!(name.parse(), Ok(*preset));
            assert_eq!(name.to_uppercase().parse(), Ok(*preset));
            assert_eq!(preset.to_string(), *name);
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text = "latency=62.5ms,jitter=5ms,loss=2.5%,duplication=1%,reordering=0.5%,bandwidth=200kbit";
        let read: Conditions = text.parse().expect("it is well written");
        let same = Conditions {
            latency: Duration::from_micros(62_500),
            jitter: Duration::from_millis(5),
            loss: 0.025,
            bursts: None,
            duplication: 0.01,
            reordering: 0.005,
            bandwidth: Some(25_000),
            queue: 6_000,
        };
        assert_eq!(read, same);
        assert_eq!(read.to_string(), text);
    }

    #[test]
    fn spaces_units_and_later_words_are_understood() {
        let read: Conditions = " Cellular , LATENCY = 1.5s, loss= 0% , bandwidth=2mbit".parse().expect("it is fine");
        let expected = Conditions {
            latency: Duration::from_millis(1_500),
            loss: 0.0,
            bandwidth: Some(250_000),
            queue: 50_000,
            ..Conditions::CELLULAR
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let wrong = [
            ("", ""),
            ("wify", "wify"),
            ("loss=2", "loss=2"),
            ("loss=101%", "loss=101%"),
            ("loss=-1%", "loss=-1%"),
            ("loss=NaN%", "loss=NaN%"),
            ("latency=11s", "latency=11s"),
            ("latency=60", "latency=60"),
            ("wifi,latency=infms", "latency=infms"),
            ("loss=1%,wifi", "wifi"),
            ("bandwidth=0kbit", "bandwidth=0kbit"),
            ("bandwidth=99999999mbit", "bandwidth=99999999mbit"),
            ("luck=1%", "luck=1%"),
            ("wifi,", ""),
        ];
        for (text, word) in wrong {
            let error = text.parse::<Conditions>().expect_err(text);
            assert_eq!(error.word, word, "{text}");
            assert!(error.to_string().starts_with("N0013"));
        }
    }
}
