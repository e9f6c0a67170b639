//! What a clause is about: findings, the structures that stand for some, and where they are.

use super::super::Assertion;
use super::super::lexicon::Role;
use super::super::matcher::Item;
use super::super::place::{Link, Word, add, link};
use super::{CueKind, Draft, Last, Reader, has_comma, is_comma};

impl Reader<'_> {
    /// 「心陰影の拡大」: the finding that a word means of the structure before it.
    pub(super) fn word_about_structure(&mut self, item: &Item) -> Option<u16> {
        const REACH: usize = 14;
        let &(_, end, _) = self.structures.last()?;
        let gap = self.between(end, item.start);
        if gap.len() > REACH || has_comma(gap) {
            return None;
        }
        let mut meant = None;
        for at in 0..self.structures.len() {
            let structure = self.structures[at].0;
            let finding = item.roles.iter().find_map(|role| match *role {
                Role::Word { structure: s, finding } if s == structure => Some(finding),
                _ => None,
            });
            if let Some(finding) = finding {
                self.structures[at].2 = true;
                // 「心陰影・縦隔の拡大なし」 is said of both.
                if let Some(earlier) = meant.replace(finding)
                    && earlier != finding
                {
                    self.push_waiting(earlier, item);
                }
            }
        }
        meant
    }

    pub(super) fn finding(&mut self, finding: u16, item: &Item) {
        let gap_end = self.last_end;
        if Some(finding) == self.lexicon.generic {
            if matches!(self.last, Last::Cue(CueKind::Attribute)) {
                // 「先端位置に異常なし」 is about the position, which no concept stands for.
                self.last_end = item.end;
                return;
            }
            let normal = self.normal_of_structures();
            let findings = if normal.is_empty() { vec![finding] } else { normal };
            for finding in findings {
                self.finding_at(finding, item, gap_end);
                if let Some(draft) = self.drafts.last_mut() {
                    draft.general = true;
                }
            }
            return;
        }
        self.finding_at(finding, item, gap_end);
    }

    pub(super) fn finding_at(&mut self, finding: u16, item: &Item, gap_end: usize) {
        if let Some((assertion, cue)) = self.before {
            if self.scope_reaches(assertion, gap_end, item) {
                self.push(finding, item, assertion, Some(cue));
                return self.met(Last::Finding, item);
            }
            self.before = None;
        }
        if let Some(cue) = self.history_after(item.end) {
            self.push(finding, item, Assertion::History, Some(cue));
            // 「右肺癌術後変化」 is of one place, 「右肺癌術後、」 is done with.
            if self.chars.get(cue.1).is_none_or(|c| is_comma(*c)) {
                self.reset_places();
            }
            return self.met(Last::Nothing, item);
        }
        self.push_waiting(finding, item);
        self.met(Last::Finding, item);
    }

    pub(super) fn push(
        &mut self,
        finding: u16,
        item: &Item,
        assertion: Assertion,
        cue: Option<(usize, usize)>,
    ) -> usize {
        self.drafts.push(Draft {
            finding,
            span: (item.start, item.end),
            places: self.places.clone(),
            assertion,
            cue,
            inherited: !self.places_fresh,
            doubted: false,
            general: false,
            from_ratio: false,
        });
        self.places_fresh = false;
        self.places_end = None;
        self.drafts.len() - 1
    }

    pub(super) fn push_waiting(&mut self, finding: u16, item: &Item) {
        let draft = self.push(finding, item, Assertion::Present, None);
        self.group.push(draft);
    }

    /// 「肺癌術後」「肺癌の既往」: the cue's place, where one follows.
    pub(super) fn history_after(&self, end: usize) -> Option<(usize, usize)> {
        let mut from = end;
        if self.chars.get(from) == Some(&'の') && self.chars.get(from + 1) != Some(&'既') {
            from += 1;
        }
        let rest = self.between(from, self.end);
        let cue =
            self.lexicon.history.iter().filter(|cue| rest.starts_with(cue)).max_by_key(|cue| cue.len())?;
        Some((from, from + cue.len()))
    }

    // ---- structures ----

    pub(super) fn structure(&mut self, structure: u16, item: &Item) {
        self.structures.push((structure, item.end, false));
        if let Some(limit) = self.lexicon.structures[usize::from(structure)].ratio_above
            && let Some((above, end)) = self.ratio(item.end, limit)
        {
            let assertion = if above { Assertion::Present } else { Assertion::Absent };
            // 「CTR 52%、肺野異常なし」: what follows the comma is not said of the ratio.
            let last = self.structures.len() - 1;
            let next = self.between(end, self.end).iter().find(|c| !" )".contains(**c));
            self.structures[last].2 = next.is_none_or(|c| is_comma(*c));
            for finding in self.lexicon.structures[usize::from(structure)].normal.clone() {
                let draft = self.push(finding, item, assertion, Some((item.end, end)));
                self.drafts[draft].from_ratio = true;
            }
        }
    }

    /// 「CTR 58%」: whether the percentage that follows is above the limit, and where it ends.
    pub(super) fn ratio(&self, from: usize, limit: f64) -> Option<(bool, usize)> {
        const REACH: usize = 8;
        let rest = self.between(from, self.end);
        let start = rest.iter().take(REACH).position(char::is_ascii_digit)?;
        let len = rest[start..].iter().take_while(|c| c.is_ascii_digit() || **c == '.').count();
        let value: f64 = rest[start..start + len].iter().collect::<String>().parse().ok()?;
        let mut tail = rest[start + len..].iter().skip_while(|c| **c == ' ');
        if !matches!(tail.next(), Some('%' | '％')) {
            return None;
        }
        let tail: String = tail.take(3).collect();
        let over = ["以上", "超", "を超"].iter().any(|word| tail.starts_with(word));
        Some((value > limit || over && value >= limit, from + start + len + 1))
    }

    pub(super) fn normal_of_structures(&mut self) -> Vec<u16> {
        let mut normal = Vec::new();
        for (structure, _, _) in self.structures.drain(..).filter(|(_, _, used)| !used) {
            for &finding in &self.lexicon.structures[usize::from(structure)].normal {
                if !normal.contains(&finding) {
                    normal.push(finding);
                }
            }
        }
        normal
    }

    // ---- places ----

    pub(super) fn place(&mut self, word: Word, item: &Item) {
        let opened = self.between(self.last_end, item.start).iter().filter(|c| **c != ' ').eq(['('].iter());
        if opened && self.bracketed.is_none() {
            self.bracketed = match self.last {
                Last::Finding => self.drafts.len().checked_sub(1),
                // 「胸水あり(右)」.
                Last::Cue(_) => self.decided.last().copied().filter(|d| self.drafts[*d].places.is_empty()),
                _ => None,
            };
            if let Some(draft) = self.bracketed {
                self.drafts[draft].places = Vec::new();
            }
        }
        if let Some(draft) = self.bracketed {
            let link = self.places_end.map_or(Link::None, |end| link(self.between(end, item.start)));
            self.places_end = Some(item.end);
            add(&mut self.drafts[draft].places, word, link);
            self.drafts[draft].inherited = false;
            return;
        }
        let link = self.places_end.map_or(Link::None, |end| link(self.between(end, item.start)));
        add(&mut self.places, word, link);
        self.places_end = Some(item.end);
        self.places_fresh = true;
        let after: String =
            self.between(item.end, self.end).iter().take(4).filter(|c| !"側肺野".contains(**c)).collect();
        if after.starts_with("では") || after.starts_with(':') {
            self.topic = self.places.clone();
        }
    }

    pub(super) fn reset_places(&mut self) {
        self.places = self.topic.clone();
        self.places_end = None;
        self.places_fresh = false;
    }

    /// 「胸水を右に認める」: a place between a finding and its predicate.
    pub(super) fn take_places_after(&mut self) {
        if self.places_fresh && self.last == Last::Finding {
            for &draft in &self.group {
                let draft = &mut self.drafts[draft];
                if draft.inherited && (draft.places.is_empty() || draft.places == self.topic) {
                    draft.places.clone_from(&self.places);
                }
            }
        }
    }
}
