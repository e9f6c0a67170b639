//! What a sentence says of each finding in it: present, absent, uncertain or past, and where.
//!
//! Japanese puts the predicate last, so findings wait in a group until a cue decides for all of them:
//! 「浸潤影や胸水、気胸は認めない」 denies three. A cue closes its group, which is how 「胸水を認めるが、気胸は
//! 認めない」 falls into two clauses without a grammar of conjunctions. Exceptions, in the order met:
//!
//! - a word of change (増加, 改善) asserts the findings before it and takes the denial after it on itself;
//! - a doubt that qualifies a noun (「肺炎を疑う陰影は認めない」) waits for that noun's predicate;
//! - a cue right after a cue revises it: 「疑いはない」, 「消失を認める」, 「ないとは言えない」;
//! - English denials and doubts stand before: 「no effusion or pneumothorax」.
//!
//! A sentence is all that is looked at; nothing is carried to the next.

use std::ops::Range;

use super::lexicon::{CueKind, Lexicon, Role};
use super::matcher::Item;
use super::place::{Link, Place, Word, add, link};
use super::{Assertion, Side};

/// A finding in a sentence, before it becomes one mention per place.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub finding: u16,
    pub span: (usize, usize),
    pub places: Vec<Place>,
    pub assertion: Assertion,
    pub cue: Option<(usize, usize)>,
    /// The place was said of an earlier finding of the clause and only inherited.
    inherited: bool,
    /// A doubt that waits for its noun's predicate.
    doubted: bool,
    /// Read from a ratio; gives way to words about the same finding.
    from_ratio: bool,
}

/// What was met last, apart from places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Nothing,
    Finding,
    Doubt,
    Cue(CueKind),
}

struct Reader<'a> {
    lexicon: &'a Lexicon,
    chars: &'a [char],
    end: usize,
    drafts: Vec<Draft>,
    /// Findings that wait for a cue.
    group: Vec<usize>,
    /// What the last cue decided on, for a cue that revises it.
    decided: Vec<usize>,
    last: Last,
    last_end: usize,
    structures: Vec<(u16, usize)>,
    places: Vec<Place>,
    places_end: Option<usize>,
    /// The places were said after the last finding.
    places_fresh: bool,
    /// 「右肺では」「右肺:」 holds for the whole sentence.
    topic: Vec<Place>,
    /// Inside 「胸水(右)」: the finding that the place belongs to.
    bracketed: Option<usize>,
    before: Option<(Assertion, (usize, usize))>,
}

/// Reads one sentence.
pub(super) fn read_sentence(
    lexicon: &Lexicon,
    chars: &[char],
    sentence: Range<usize>,
    items: &[Item],
) -> Vec<Draft> {
    let mut reader = Reader {
        lexicon,
        chars,
        end: sentence.end,
        drafts: Vec::new(),
        group: Vec::new(),
        decided: Vec::new(),
        last: Last::Nothing,
        last_end: sentence.start,
        structures: Vec::new(),
        places: Vec::new(),
        places_end: None,
        places_fresh: false,
        topic: Vec::new(),
        bracketed: None,
        before: None,
    };
    for (at, item) in items.iter().enumerate() {
        reader.read(item, items.get(at + 1));
    }
    reader.finish()
}

impl Reader<'_> {
    fn read(&mut self, item: &Item, next: Option<&Item>) {
        if self.bracketed.is_some() && self.between(self.last_end, item.start).contains(&')') {
            self.bracketed = None;
        }
        if self.last == Last::Doubt && has_comma(self.between(self.last_end, item.start)) {
            // 「肺炎の疑い、胸水なし」: the doubt had no noun after all.
            self.close(Assertion::Uncertain, None);
        }
        if let Some(finding) = self.word_about_structure(item) {
            return self.finding(finding, item);
        }
        // Places first: 肺門 and CP angle are both a place and a structure.
        for role in item.roles {
            match *role {
                Role::Side(side) => self.place(Word::Side(side), item),
                Role::Zone(zones) => self.place(Word::Zone(zones), item),
                _ => {}
            }
        }
        for role in item.roles {
            match *role {
                Role::Structure(structure) => self.structure(structure, item),
                Role::Finding(finding) => return self.finding(finding, item),
                Role::Statement { finding, assertion } => {
                    self.push(finding, item, assertion, Some((item.start, item.end)));
                    return self.met(Last::Nothing, item);
                }
                _ => {}
            }
        }
        let cues: Vec<CueKind> = item
            .roles
            .iter()
            .filter_map(|r| if let Role::Cue(kind) = r { Some(*kind) } else { None })
            .collect();
        // 「normal」 and 「clear」 are said of structures; without one other meanings come first.
        let kind =
            cues.iter().find(|k| **k == CueKind::Normal && !self.structures.is_empty()).or(cues.first());
        if let Some(&kind) = kind {
            self.cue(kind, item, next);
        }
    }

    fn between(&self, from: usize, to: usize) -> &[char] {
        self.chars.get(from..to).unwrap_or_default()
    }

    fn met(&mut self, last: Last, item: &Item) {
        self.last = last;
        self.last_end = item.end;
    }

    // ---- findings ----

    /// 「心陰影の拡大」: the finding that a word means of the structure before it.
    fn word_about_structure(&mut self, item: &Item) -> Option<u16> {
        const REACH: usize = 14;
        let &(_, end) = self.structures.last()?;
        let gap = self.between(end, item.start);
        if gap.len() > REACH || has_comma(gap) {
            return None;
        }
        let mut meant = None;
        let mut used = Vec::new();
        for (structure, _) in self.structures.clone() {
            let finding = item.roles.iter().find_map(|role| match *role {
                Role::Word { structure: s, finding } if s == structure => Some(finding),
                _ => None,
            });
            if let Some(finding) = finding {
                used.push(structure);
                // 「心陰影・縦隔の拡大なし」 is said of both.
                if let Some(earlier) = meant.replace(finding)
                    && earlier != finding
                {
                    self.push_waiting(earlier, item);
                }
            }
        }
        self.structures.retain(|(structure, _)| !used.contains(structure));
        meant
    }

    fn finding(&mut self, finding: u16, item: &Item) {
        let gap_end = self.last_end;
        if Some(finding) == self.lexicon.generic {
            if matches!(self.last, Last::Cue(CueKind::Attribute)) {
                // 「先端位置に異常なし」 is about the position, which no concept stands for.
                self.last_end = item.end;
                return;
            }
            if !self.structures.is_empty() {
                for normal in self.normal_of_structures() {
                    self.finding_at(normal, item, gap_end);
                }
                return;
            }
        }
        self.finding_at(finding, item, gap_end);
    }

    fn finding_at(&mut self, finding: u16, item: &Item, gap_end: usize) {
        if let Some((assertion, cue)) = self.before {
            if self.scope_reaches(assertion, gap_end, item) {
                self.push(finding, item, assertion, Some(cue));
                return self.met(Last::Finding, item);
            }
            self.before = None;
        }
        if let Some(cue) = self.history_after(item.end) {
            self.push(finding, item, Assertion::History, Some(cue));
            self.reset_places();
            return self.met(Last::Nothing, item);
        }
        self.push_waiting(finding, item);
        self.met(Last::Finding, item);
    }

    fn push(
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
            from_ratio: false,
        });
        self.places_fresh = false;
        self.places_end = None;
        self.drafts.len() - 1
    }

    fn push_waiting(&mut self, finding: u16, item: &Item) {
        let draft = self.push(finding, item, Assertion::Present, None);
        self.group.push(draft);
    }

    /// 「肺癌術後」「肺癌の既往」: the cue's place, where one follows.
    fn history_after(&self, end: usize) -> Option<(usize, usize)> {
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

    fn structure(&mut self, structure: u16, item: &Item) {
        self.structures.push((structure, item.end));
        if let Some(limit) = self.lexicon.structures[usize::from(structure)].ratio_above
            && let Some((above, end)) = self.ratio(item.end, limit)
        {
            let assertion = if above { Assertion::Present } else { Assertion::Absent };
            for finding in self.lexicon.structures[usize::from(structure)].normal.clone() {
                let draft = self.push(finding, item, assertion, Some((item.end, end)));
                self.drafts[draft].from_ratio = true;
            }
        }
    }

    /// 「CTR 58%」: whether the percentage that follows is above the limit, and where it ends.
    fn ratio(&self, from: usize, limit: f64) -> Option<(bool, usize)> {
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

    fn normal_of_structures(&mut self) -> Vec<u16> {
        let mut normal = Vec::new();
        for (structure, _) in self.structures.drain(..) {
            for &finding in &self.lexicon.structures[usize::from(structure)].normal {
                if !normal.contains(&finding) {
                    normal.push(finding);
                }
            }
        }
        normal
    }

    // ---- places ----

    fn place(&mut self, word: Word, item: &Item) {
        let opened = self.between(self.last_end, item.start).iter().filter(|c| **c != ' ').eq(['('].iter());
        if self.last == Last::Finding && opened && self.bracketed.is_none() {
            self.bracketed = self.drafts.len().checked_sub(1);
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

    fn reset_places(&mut self) {
        self.places = self.topic.clone();
        self.places_end = None;
        self.places_fresh = false;
    }

    /// 「胸水を右に認める」: a place between a finding and its predicate.
    fn take_places_after(&mut self) {
        if self.places_fresh && self.last == Last::Finding {
            for &draft in &self.group {
                let draft = &mut self.drafts[draft];
                if draft.inherited && (draft.places.is_empty() || draft.places == self.topic) {
                    draft.places.clone_from(&self.places);
                }
            }
        }
    }

    // ---- cues ----

    fn cue(&mut self, kind: CueKind, item: &Item, next: Option<&Item>) {
        let span = (item.start, item.end);
        match kind {
            CueKind::Ignore => {}
            CueKind::EndsScope => self.before = None,
            CueKind::BeforeAbsent | CueKind::BeforeUncertain => self.before_cue(kind, item, next),
            CueKind::Except => {
                self.close(Assertion::Present, Some(span));
                self.structures.clear();
                self.met(Last::Nothing, item);
            }
            CueKind::Change | CueKind::Attribute => self.change(kind, item),
            _ if self.group.is_empty() && !(kind == CueKind::Normal && !self.structures.is_empty()) => {
                self.revise(kind, item);
            }
            CueKind::Normal => self.normal(item),
            CueKind::Absent | CueKind::Vanish => self.settle(Assertion::Absent, kind, item),
            CueKind::Present => self.settle(Assertion::Present, kind, item),
            CueKind::Uncertain | CueKind::WeakUncertain => {
                if self.qualifies_noun(item, next) {
                    for &draft in &self.group {
                        self.drafts[draft].doubted = true;
                        self.drafts[draft].cue = Some(span);
                    }
                    self.take_places_after();
                    self.met(Last::Doubt, item);
                } else {
                    self.settle(Assertion::Uncertain, kind, item);
                }
            }
        }
    }

    /// The group's cue.
    fn settle(&mut self, assertion: Assertion, kind: CueKind, item: &Item) {
        self.take_places_after();
        self.set_terse_apart(assertion, item);
        self.close(assertion, Some((item.start, item.end)));
        self.structures.clear();
        self.reset_places();
        self.before = None;
        self.met(Last::Cue(kind), item);
    }

    /// Decides on the group and empties it.
    fn close(&mut self, assertion: Assertion, cue: Option<(usize, usize)>) {
        let group = std::mem::take(&mut self.group);
        let diagnosis_last = group.last().is_some_and(|&d| self.is_diagnosis(d));
        for &at in &group {
            // 「浸潤影、肺炎の疑い」: what is seen is there, what it may mean is in doubt.
            let seen = assertion == Assertion::Uncertain && diagnosis_last && !self.is_diagnosis(at);
            let draft = &mut self.drafts[at];
            draft.assertion = match assertion {
                Assertion::Uncertain if seen => Assertion::Present,
                Assertion::Present if draft.doubted => Assertion::Uncertain,
                other => other,
            };
            if cue.is_some() && !(draft.doubted && draft.assertion == Assertion::Uncertain) {
                draft.cue = if seen { None } else { cue };
            }
            draft.doubted = false;
        }
        if !group.is_empty() {
            self.decided = group;
        }
    }

    fn is_diagnosis(&self, draft: usize) -> bool {
        self.lexicon.concepts()[usize::from(self.drafts[draft].finding)].diagnosis
    }

    /// 「右下肺野に浸潤影、胸水なし」: a finding at a place of one side that ends its phrase bare is there; a
    /// list that is denied (「浸潤影や胸水は認めない」) is joined by particles or takes the topic は.
    fn set_terse_apart(&mut self, assertion: Assertion, item: &Item) {
        let terse = self.between(item.start, item.end).iter().collect::<String>();
        if assertion != Assertion::Absent || !["なし", "無し", "なく", "無く"].contains(&terse.as_str())
        {
            return;
        }
        let group = self.group.clone();
        for pair in group.windows(2) {
            let (this, next) = (&self.drafts[pair[0]], &self.drafts[pair[1]]);
            let one_side = this.places.iter().any(|p| matches!(p.side, Side::Right | Side::Left));
            let after = self.between(this.span.1, next.span.0);
            let bare = after.iter().find(|c| **c != ' ').is_some_and(|c| is_comma(*c));
            let before = this.span.0.checked_sub(1).and_then(|at| self.chars.get(at));
            if one_side && !this.inherited && bare && before == Some(&'に') {
                self.group.retain(|d| *d != pair[0]);
                // The next finding is of another phrase and takes nothing from this one's place.
                let inherited = self.drafts[pair[1]].inherited;
                if inherited {
                    self.drafts[pair[1]].places = self.topic.clone();
                }
            }
        }
    }

    /// A word of change, or of a device's position: what is before is there.
    fn change(&mut self, kind: CueKind, item: &Item) {
        if self.group.is_empty() {
            if self.before.is_some_and(|(assertion, _)| assertion == Assertion::Absent) {
                // 「no change in effusion」 denies the change.
                self.before = None;
            }
            if kind == CueKind::Change {
                self.met(Last::Cue(kind), item);
            }
            return;
        }
        self.take_places_after();
        self.close(Assertion::Present, Some((item.start, item.end)));
        self.met(Last::Cue(kind), item);
    }

    /// Nothing wrong with the structures before.
    fn normal(&mut self, item: &Item) {
        let span = (item.start, item.end);
        self.close(Assertion::Present, None);
        let findings = self.normal_of_structures();
        for finding in findings {
            let draft = self.push(finding, item, Assertion::Absent, Some(span));
            self.decided.push(draft);
        }
        self.reset_places();
        self.met(Last::Cue(CueKind::Normal), item);
    }

    /// A cue without findings of its own: it revises the cue just before it, or means nothing.
    fn revise(&mut self, kind: CueKind, item: &Item) {
        const REACH: usize = 8;
        let gap = self.between(self.last_end, item.start);
        let near = gap.len() <= REACH && !has_comma(gap);
        let Last::Cue(previous) = self.last else {
            if kind == CueKind::Normal && self.last == Last::Nothing && self.drafts.is_empty() {
                // 「胸部X線写真は正常」.
                if let Some(generic) = self.lexicon.generic {
                    self.push(generic, item, Assertion::Absent, Some((item.start, item.end)));
                }
            }
            return;
        };
        let absent = matches!(kind, CueKind::Absent);
        let revised = match (previous, kind) {
            // 「改善し、消失」: whatever was said of it before, it is gone.
            (CueKind::Change | CueKind::Present, CueKind::Vanish) => Some(Assertion::Absent),
            _ if !near => None,
            (CueKind::Uncertain | CueKind::WeakUncertain | CueKind::Present, _) if absent => {
                Some(Assertion::Absent)
            }
            (CueKind::Absent, _) if absent => Some(Assertion::Uncertain),
            (CueKind::Vanish | CueKind::Normal, _) if absent => Some(Assertion::Present),
            (CueKind::Absent | CueKind::Vanish | CueKind::Normal | CueKind::Present, CueKind::Uncertain)
            | (CueKind::Present, CueKind::WeakUncertain) => Some(Assertion::Uncertain),
            _ => None,
        };
        if let Some(assertion) = revised {
            for &draft in &self.decided {
                self.drafts[draft].assertion = assertion;
                self.drafts[draft].cue = Some((item.start, item.end));
            }
            self.met(Last::Cue(kind), item);
        } else if near && matches!(kind, CueKind::Absent) {
            self.last_end = item.end;
        }
    }

    /// 「疑う陰影」「疑いの所見」「可能性のある結節」 rather than 「疑う。」「疑いあり」.
    fn qualifies_noun(&self, item: &Item, next: Option<&Item>) -> bool {
        let mut rest = self.between(item.end, self.end);
        for link in ["のある", "がある", "ような", "の", "な"] {
            let link: Vec<char> = link.chars().collect();
            if rest.starts_with(&link) {
                rest = &rest[link.len()..];
                break;
            }
        }
        let noun =
            rest.first().is_some_and(|c| ('\u{4e00}'..='\u{9fff}').contains(c) || ('ァ'..='ヶ').contains(c));
        noun && next.is_some()
    }

    // ---- English ----

    fn before_cue(&mut self, kind: CueKind, item: &Item, next: Option<&Item>) {
        let gap: String = self.between(self.last_end, item.start).iter().collect();
        let follows_verb = ["is", "are", "was", "were"].contains(&gap.trim());
        if kind == CueKind::BeforeUncertain && !self.group.is_empty() && (follows_verb || next.is_none()) {
            // 「pneumonia is possible」.
            return self.settle(Assertion::Uncertain, CueKind::Uncertain, item);
        }
        let assertion = if kind == CueKind::BeforeAbsent { Assertion::Absent } else { Assertion::Uncertain };
        // 「cardiomegaly without effusion」: what is before is there.
        self.close(Assertion::Present, None);
        if assertion == Assertion::Absent {
            // A doubt is about what was just described, and keeps its place: 「left consolidation, possible
            // pneumonia」.
            self.reset_places();
        }
        self.before = Some((assertion, (item.start, item.end)));
        self.met(Last::Nothing, item);
    }

    /// Whether 「no」 still holds after a comma: in 「no effusion, pneumothorax, or nodule」 it does, in
    /// 「no effusion, mild cardiomegaly」 it does not.
    fn scope_reaches(&self, assertion: Assertion, from: usize, item: &Item) -> bool {
        let gap = self.between(from, item.start);
        let Some(comma) = gap.iter().rposition(|c| is_comma(*c)) else { return true };
        if assertion == Assertion::Uncertain {
            return false;
        }
        let after: String = gap[comma + 1..].iter().collect();
        let after = after.trim();
        let rest: String = self.between(item.end, self.end).iter().collect();
        after.is_empty() || ["or", "nor", "and"].iter().any(|w| after.starts_with(w)) || rest.contains(" or ")
    }

    fn finish(mut self) -> Vec<Draft> {
        self.take_places_after();
        let assertion = if self.last == Last::Doubt { Assertion::Uncertain } else { Assertion::Present };
        self.close(assertion, None);
        let stated: Vec<u16> = self.drafts.iter().filter(|d| !d.from_ratio).map(|d| d.finding).collect();
        self.drafts.retain(|draft| !draft.from_ratio || !stated.contains(&draft.finding));
        self.drafts
    }
}

fn is_comma(c: char) -> bool {
    matches!(c, '、' | ',' | '，' | '､')
}

fn has_comma(gap: &[char]) -> bool {
    gap.iter().any(|c| is_comma(*c))
}
