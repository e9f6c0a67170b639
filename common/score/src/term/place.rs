//! Sides and zones as a sentence builds them up: 「右上肺野および左下肺野に」 is two places.

use super::Side;

/// A side with the zones said of it; zones are bits in the lexicon's order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// The side.
    pub side: Side,
    /// The zones, none where zero.
    pub zones: u32,
}

/// A word about a place.
#[derive(Debug, Clone, Copy)]
pub enum Word {
    /// 右, left, …
    Side(Side),
    /// 上肺野, apex, …
    Zone(u32),
}

/// How a place word follows the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Nothing, or の: both are of one place.
    Direct,
    /// と, および, a comma: further places.
    List,
    /// Anything else: the places before are done with.
    None,
}

/// Classifies what stands between two place words.
pub fn link(gap: &[char]) -> Link {
    if gap.iter().all(|c| "の側肺野部胸 ".contains(*c)) {
        return Link::Direct;
    }
    let text: String = gap.iter().filter(|c| **c != ' ').collect();
    let text = text.trim_start_matches(['側', '肺', '野', '部']);
    let list = [
        "と",
        "および",
        "及び",
        "ならびに",
        "並びに",
        "・",
        "、",
        ",",
        "，",
        "/",
        "や",
        "から",
        "〜",
        "~",
        "-",
        "より",
        "にも",
        "and",
        "or",
        "&",
        "そして",
        "または",
        "、および",
        "+",
    ];
    if list.contains(&text) { Link::List } else { Link::None }
}

/// Adds a place word to the places so far.
pub fn add(places: &mut Vec<Place>, word: Word, link: Link) {
    match (word, link, places.last_mut()) {
        (Word::Side(side), Link::Direct, Some(last)) if last.side == Side::None => last.side = side,
        (Word::Side(Side::Both), Link::Direct, Some(last)) => last.side = Side::Both,
        (Word::Side(side), Link::List, Some(_)) => places.push(Place { side, zones: 0 }),
        (Word::Side(side), ..) => *places = vec![Place { side, zones: 0 }],
        (Word::Zone(zones), Link::Direct | Link::List, Some(last)) => last.zones |= zones,
        // A new zone keeps the side of the clause: 「右上肺野に結節、下肺野に浸潤影」.
        (Word::Zone(zones), ..) => {
            let side = if places.len() == 1 { places[0].side } else { Side::None };
            *places = vec![Place { side, zones }];
        }
    }
}

/// Right and left with the same zones become both.
pub fn merge(places: &[Place]) -> Vec<Place> {
    let mut merged: Vec<Place> = Vec::new();
    for &place in places {
        if merged.contains(&place) {
            continue;
        }
        let twin = merged.iter_mut().find(|m| {
            m.zones == place.zones
                && matches!((m.side, place.side), (Side::Right, Side::Left) | (Side::Left, Side::Right))
        });
        match twin {
            Some(twin) => twin.side = Side::Both,
            None => merged.push(place),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_places_and_both_sides() {
        let mut places = Vec::new();
        for (word, gap) in [
            (Word::Side(Side::Right), ""),
            (Word::Zone(1), ""),
            (Word::Side(Side::Left), "および"),
            (Word::Zone(4), ""),
        ] {
            add(&mut places, word, link(&gap.chars().collect::<Vec<_>>()));
        }
        assert_eq!(places, [Place { side: Side::Right, zones: 1 }, Place { side: Side::Left, zones: 4 }]);
        places.iter_mut().for_each(|p| p.zones = 0);
        assert_eq!(merge(&places), [Place { side: Side::Both, zones: 0 }]);
    }
}
