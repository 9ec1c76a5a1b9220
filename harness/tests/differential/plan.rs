//! What one run of the suite does, from its environment variables.

use crate::cell::{Cell, Settings};
use crate::drawn::draw;
use crate::fault::Fault;
use crate::matrix::{self, Chain, PROVIDERS};

/// Cells drawn from the seed where nothing is said.
const CASES: usize = 8;
/// The same in a whole run.
const CASES_FULL: usize = 60;

/// What to do.
#[derive(Debug)]
pub(crate) struct Plan {
    /// `DIFFERENTIAL_FULL`: the whole matrix, else a part in which everything occurs.
    pub(crate) full: bool,
    /// `DIFFERENTIAL_SEED`: of the drawn cells and of the mock gateways; it also turns the part.
    pub(crate) seed: u64,
    /// `DIFFERENTIAL_CASES`: drawn cells.
    pub(crate) cases: usize,
    /// `DIFFERENTIAL_ONLY`: parts of `settings/cell` names, of which one must occur in a cell's.
    pub(crate) only: Vec<String>,
    /// `DIFFERENTIAL_SHOW`: what happened in each cell, not only where the two part.
    pub(crate) show: bool,
    /// `DIFFERENTIAL_WRITE`: write the table into `docs/differential.md`.
    pub(crate) write: bool,
}

impl Plan {
    /// As the environment has it.
    pub(crate) fn from_environment() -> Self {
        let text =
            |name: &str| std::env::var(format!("DIFFERENTIAL_{name}")).ok().filter(|text| !text.is_empty());
        let number =
            |name: &str| text(name).map(|text| text.parse().unwrap_or_else(|_| panic!("{name}: a number")));
        let full = text("FULL").is_some();
        let cases = if full { CASES_FULL } else { CASES };
        Self {
            full,
            seed: number("SEED").unwrap_or(1),
            cases: number("CASES").map_or(cases, |cases| usize::try_from(cases).expect("a small number")),
            only: text("ONLY").map(|text| text.split(',').map(str::to_owned).collect()).unwrap_or_default(),
            show: text("SHOW").is_some(),
            write: text("WRITE").is_some(),
        }
    }

    /// Parts of names that [`Self::only`] asks for and no cell's name holds.
    pub(crate) fn unmatched(&self) -> Vec<&str> {
        let groups = self.groups();
        let names: Vec<String> =
            groups.iter().flat_map(|(s, cells)| cells.iter().map(|c| full_name(s, c))).collect();
        let is_unmatched = |part: &&str| !names.iter().any(|name| name.contains(part));
        self.only.iter().map(String::as_str).filter(is_unmatched).collect()
    }

    /// The configurations with their cells.
    pub(crate) fn groups(&self) -> Vec<(Settings, Vec<Cell>)> {
        let mut groups: Vec<(Settings, Vec<Cell>)> = Vec::new();
        let seed = usize::try_from(self.seed % 1024).expect("a small number");
        for (number, settings) in matrix::settings().into_iter().enumerate() {
            let whole = self.full || !self.only.is_empty();
            let cells = if whole { matrix::all(&settings) } else { part(&settings, number + seed) };
            groups.push((settings, cells));
        }
        groups.extend(draw(self.seed, self.cases));
        for (settings, cells) in &mut groups {
            let is_wanted = |cell: &Cell| {
                let name = full_name(settings, cell);
                self.only.is_empty() || self.only.iter().any(|part| name.contains(part))
            };
            cells.retain(is_wanted);
        }
        groups.retain(|(_, cells)| !cells.is_empty());
        // Those that wait longest go first.
        groups.sort_by_key(|(settings, _)| settings.router["num_retries"] == 0);
        groups
    }
}

fn full_name(settings: &Settings, cell: &Cell) -> String {
    format!("{}/{}", settings.name, cell.name)
}

/// Every second fault of the matrix, each in one of its eight forms: turned by `number`, so that over the
/// configurations each fault meets half of them, and most of its forms.
fn part(settings: &Settings, number: usize) -> Vec<Cell> {
    let mut cells = Vec::new();
    for (index, fault) in matrix::faults(settings)
        .into_iter()
        .enumerate()
        .filter(|(index, _)| (index + number).is_multiple_of(2))
    {
        let form = index / 2 + number / 2 * 3 + index % 2 * 5;
        let streaming = form & 1 == 1 || !fault.applies(false);
        let provider = PROVIDERS[form >> 1 & 1];
        let chain = if form >> 2 & 1 == 1 { Chain::Dead } else { Chain::Relay };
        cells.push(matrix::cell(settings, fault, streaming, provider, chain));
    }
    cells
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn everything_occurs_in_the_part_and_names_are_unique() {
        let plan = |full| Plan { full, seed: 1, cases: 8, only: vec![], show: false, write: false };
        let mut seen = BTreeSet::new();
        for (settings, cells) in plan(false).groups() {
            for cell in &cells {
                seen.insert(settings.name.clone());
                seen.insert(cell.deployments[0].fault.name());
                seen.insert(format!("{:?} {}", cell.deployments[0].provider, cell.streaming));
                seen.insert(if cell.roles().len() == 2 { "dead".into() } else { "relay".into() });
            }
        }
        let settings = matrix::settings().into_iter().map(|settings| settings.name);
        let faults = Fault::MATRIX.into_iter().map(Fault::name);
        let kinds = ["OllamaChat", "HostedVllm"]
            .into_iter()
            .flat_map(|p| [format!("{p} true"), format!("{p} false")]);
        for wanted in settings.chain(faults).chain(kinds).chain(["dead".into(), "relay".into()]) {
            assert!(seen.contains(&wanted), "{wanted} is in no cell: {seen:?}");
        }
        for (settings, cells) in plan(true).groups() {
            let names: BTreeSet<&str> = cells.iter().map(|cell| cell.name.as_str()).collect();
            assert_eq!(names.len(), cells.len(), "{}", settings.name);
        }
    }

    #[test]
    fn a_part_that_names_nothing_is_told() {
        let only = ["tuned/500-", "tuned/5000", "nothing"].map(str::to_owned).to_vec();
        let plan = Plan { full: false, seed: 1, cases: 2, only, show: false, write: false };
        assert_eq!(plan.unmatched(), ["tuned/5000", "nothing"]);
    }

    #[test]
    fn the_same_seed_draws_the_same_and_more_cells_change_none_before() {
        let text = |seed, cells| format!("{:?}", draw(seed, cells));
        assert_eq!(text(3, 30), text(3, 30));
        assert_ne!(text(3, 30), text(4, 30));
        let (few, many) = (draw(3, 12), draw(3, 24));
        assert_eq!(format!("{:?}", few[0]), format!("{:?}", many[0]));
    }
}
