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

mod subject;

use std::ops::Range;

use super::lexicon::{CueKind, Lexicon, Role};
use super::matcher::Item;
use super::place::{Place, Word};
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
    /// 「異常」, of the report or of a structure.
    general: bool,
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
    /// Structures named since the last cue, with where they end and whether a word was already said of them.
    structures: Vec<(u16, usize, bool)>,
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
                self.reset_places();
                self.met(Last::Nothing, item);
            }
            CueKind::Change | CueKind::Attribute => self.change(kind, item),
            _ if self.group.is_empty() && (kind != CueKind::Normal || self.structures.is_empty()) => {
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
            // 「右胸水、その他異常なし」 says what is there, then that nothing else is.
            let rest = next.general && !this.general && bare;
            if rest || one_side && !this.inherited && bare && before == Some(&'に') {
                self.group.retain(|d| if rest { *d > pair[0] } else { *d != pair[0] });
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
        // 「右胸水の増加と無気肺」 is one place still, 「右胸水は増加、」 is done with.
        let listed = self.chars.get(item.end).is_some_and(|c| "や・と及お".contains(*c));
        if !listed {
            self.reset_places();
        }
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
        if self.other_side(kind, item) {
            return;
        }
        const REACH: usize = 8;
        let gap = self.between(self.last_end, item.start);
        let near = gap.len() <= REACH && !has_comma(gap);
        let Last::Cue(previous) = self.last else {
            let whole = ["正常", "問題", "normal", "unremarkable"].iter().any(|w| {
                self.between(item.start, item.end).iter().copied().zip(w.chars()).all(|(a, b)| a == b)
            });
            if kind == CueKind::Normal && whole && self.last == Last::Nothing && self.drafts.is_empty() {
                // 「胸部X線写真は正常」 is said of all, 「撮影条件は良好」 is not.
                if let Some(generic) = self.lexicon.generic {
                    self.push(generic, item, Assertion::Absent, Some((item.start, item.end)));
                }
            }
            return;
        };
        let absent = matches!(kind, CueKind::Absent);
        // 「減少し、認めない」 denies the finding; 「減少はない」 and 「減少していない」 deny the change.
        let bare = self.chars.get(item.start).is_some_and(|c| "な無いおあ".contains(*c));
        let gone = previous == CueKind::Change && absent && !bare && gap.first() == Some(&'し');
        let revised = match (previous, kind) {
            // 「改善し、消失」: whatever was said of it before, it is gone.
            (CueKind::Change | CueKind::Present, CueKind::Vanish) => Some(Assertion::Absent),
            _ if gone => Some(Assertion::Absent),
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

    /// 「右に胸水あり、左にはなし」「胸水:右(+)、左(-)」: the same finding on the other side.
    fn other_side(&mut self, kind: CueKind, item: &Item) -> bool {
        let assertion = match kind {
            CueKind::Absent | CueKind::Vanish => Assertion::Absent,
            CueKind::Present => Assertion::Present,
            CueKind::Uncertain | CueKind::WeakUncertain => Assertion::Uncertain,
            _ => return false,
        };
        let &[Place { side, .. }] = self.places.as_slice() else { return false };
        let opposite = match side {
            Side::Right => Side::Left,
            Side::Left => Side::Right,
            _ => return false,
        };
        let same = |d: &usize| matches!(self.drafts[*d].places[..], [Place { side, .. }] if side == opposite);
        if !self.places_fresh || self.decided.is_empty() || !self.decided.iter().all(same) {
            return false;
        }
        let places = self.places.clone();
        let said: Vec<Draft> = self.decided.iter().map(|d| self.drafts[*d].clone()).collect();
        self.decided.clear();
        for draft in said {
            let cue = Some((item.start, item.end));
            self.drafts.push(Draft { places: places.clone(), assertion, cue, ..draft });
            self.decided.push(self.drafts.len() - 1);
        }
        self.reset_places();
        self.met(Last::Cue(kind), item);
        true
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
