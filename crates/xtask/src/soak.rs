//! Does a match that is played for long lose events or grow? The crossplay match, at loss.

use std::{collections::BTreeMap, path::PathBuf};

use crate::{
    crossplay,
    run::{Result, table},
};

/// What growth is allowed from the second fifth of the time to the last: a share, and in MB what a browser's garbage takes.
const GROWTH: f64 = 1.1;
const SLACK: f64 = 16.0;
/// What it takes to tell growth from chance.
const SAMPLES: usize = 20;

/// What `soak` is asked for.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// For how long.
    #[arg(long, default_value_t = 30)]
    minutes: u32,
    /// How many percent of what each peer sends are lost.
    #[arg(long, default_value_t = 5)]
    loss: u32,
    /// How many native peers play.
    #[arg(long, default_value_t = 2)]
    native: usize,
    /// How many pages play in Chromium.
    #[arg(long, default_value_t = 2)]
    web: usize,
    /// Write what was measured to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Plays it; an error unless every event came once and in order, every world is the same, and no peer grew.
pub(crate) fn soak(options: &Options) -> Result {
    let Options { minutes, loss, native, web, json } = options;
    let options = crossplay::Options::long(*minutes, *loss, *native, *web, json.clone());
    let memory = crossplay::measured(&options)?;
    println!("{}\n(resident memory in MB, medians of fifths of the time)", table(&rows(&memory)));
    let grown = grown(&memory);
    if grown.is_empty() { Ok(()) } else { Err(grown.join("\n")) }
}

fn rows(memory: &BTreeMap<String, Vec<f64>>) -> Vec<Vec<String>> {
    let heads = ["peer", "1st fifth", "2nd", "3rd", "4th", "5th"].map(str::to_owned).to_vec();
    let row = |(name, samples): (&String, &Vec<f64>)| {
        let fifths = fifths(samples).map(|median| format!("{median:.1}"));
        std::iter::once(name.clone()).chain(fifths).collect()
    };
    std::iter::once(heads).chain(memory.iter().map(row)).collect()
}

/// The peers that take more in the end than they should. Up to the second fifth, caches and arenas fill.
fn grown(memory: &BTreeMap<String, Vec<f64>>) -> Vec<String> {
    let judge = |(name, samples): (&String, &Vec<f64>)| {
        if samples.len() < SAMPLES {
            return Some(format!("the memory of {name} was seen {} times: play for longer, on Linux", samples.len()));
        }
        let [_, second, .., last] = fifths(samples);
        let limit = second * GROWTH + SLACK;
        (last > limit)
            .then(|| format!("{name} grew from {second:.1} to {last:.1} MB, and at most {limit:.1} is allowed"))
    };
    memory.iter().filter_map(judge).collect()
}

/// The median of each fifth.
fn fifths(samples: &[f64]) -> [f64; 5] {
    [0, 1, 2, 3, 4].map(|fifth| {
        let of = |fifth: usize| samples.len() * fifth / 5;
        let mut part = samples.get(of(fifth)..of(fifth + 1)).unwrap_or_default().to_vec();
        part.sort_by(f64::total_cmp);
        part.get(part.len() / 2).copied().unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(at: impl Fn(usize) -> f64) -> BTreeMap<String, Vec<f64>> {
        BTreeMap::from([("native-1".to_owned(), (0..100).map(at).collect())])
    }

    #[test]
    fn growth_is_told_from_noise_and_from_warming_up() {
        assert!(grown(&memory(|_| 50.0)).is_empty());
        assert!(grown(&memory(|at| if at < 20 { at as f64 } else { 60.0 + (at % 7) as f64 })).is_empty());
        assert!(grown(&memory(|at| 50.0 + at as f64 * 0.05)).is_empty());
        assert_eq!(grown(&memory(|at| 50.0 + at as f64)).len(), 1);
        assert!(grown(&BTreeMap::from([("web-1".to_owned(), vec![1.0; 5])]))[0].contains("longer"));
        assert_eq!(grown(&BTreeMap::from([("web-1".to_owned(), Vec::new())])).len(), 1, "nobody has looked");
    }
}
