//! What an operator does to a run: pause it, let it go on, extend what ends it.

use super::journal::Entry;
use super::{Changes, End, Note, Record, State};
use common::run::{Budget, Extension, Mode};
use proto::status::Class;

impl State {
    /// Lends nothing from now on, or lends again. Durable: a coordinator that is started on a paused run lends nothing.
    pub(super) fn pause(&mut self, paused: bool, changes: &mut Changes) {
        if self.counters.paused != paused {
            self.counters.paused = paused;
            changes.records.push(Record::Counters(self.counters.clone()));
            changes.notes.push(Note::Paused(paused));
        }
    }

    /// Changes what ends the run, and takes it up again if it had ended by a budget.
    ///
    /// # Errors
    /// [`Class::BadInput`] where the budget cannot be, or where it would not help.
    pub(super) fn extend(&mut self, extension: Extension, changes: &mut Changes) -> Result<Budget, Class> {
        let budget = self.budget.extended(&extension);
        let refuse = |field: &str, message: String| Err(Class::BadInput { field: field.into(), message });
        if let Err(message) = budget.check() {
            return refuse("budget", message);
        }
        let asked = self.candidates.len() as u64;
        if budget.evaluations < asked {
            return refuse("evaluations", format!("{asked} candidates were asked for already"));
        }
        if let Some(End::Search(reason)) = &self.end {
            return refuse("budget", format!("the search itself ended ({reason}); fork the run to go on"));
        }
        self.write(Entry::Extended { budget }, changes);
        self.budget = budget;
        self.end = None;
        changes.notes.push(Note::Extended(budget));
        let standing = self.course.standing();
        let still = match budget {
            Budget { target_fitness: Some(t), .. } if standing.best.is_some_and(|b| b.value() >= t) => {
                Some(End::Target(t))
            }
            Budget { stagnation: Some(n), .. } if standing.since_best() >= n => Some(End::Stagnation(n)),
            _ => None,
        };
        let has_room = budget.evaluations > asked;
        match still {
            Some(end) => self.finish(end, changes),
            None if self.open.is_empty() && !has_room => self.finish(End::Evaluations, changes),
            None if self.open.is_empty() && self.mode() == Mode::Generational => {
                self.open_generation(changes)
            }
            // A generation that was cut short while its members are still evaluated is filled up now, as a larger budget
            // would have had it.
            None if has_room
                && self.mode() == Mode::Generational
                && self.course.generation() > 0
                && self.course.wanted().0 > 0 =>
            {
                self.open_generation(changes);
            }
            None => {}
        }
        self.checkpoint(changes);
        Ok(budget)
    }
}
