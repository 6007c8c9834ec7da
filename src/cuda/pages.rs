//! Pages of keys and values: who holds which; and prefixes, the beginnings of prompts that are kept for the next prompt which
//! begins with the same positions. A page that a prefix fills is everybody's who begins so: nothing is written to it again.
//! The page in which it ends is the prefix's alone, and whoever begins so takes a copy.
//!
//! Knows no device: `P` is the memory of a page. Whoever held a page gives it back here; only then is it another's.

use super::stack::PAGE_POSITIONS;
use crate::error::{Error, Result};
use crate::prompt::Position;
use std::sync::Arc;

/// A shorter prefix is not kept: many rows are multiplied in tiles of 16 and more, and a pass reads every weight once whatever
/// the rows, so that fewer save nothing and would hold a page. A bare voice's 7 to 9 positions are no prefix, then; an
/// instruction or an in-context reference makes one.
const LEAST_POSITIONS: usize = 16;

/// All pages.
pub(crate) struct Pages<P> {
    free: Vec<Arc<P>>,
    page_bytes: usize,
    made: usize,
    most: usize,
    /// The one that was used last at the end.
    prefixes: Vec<Prefix<P>>,
    /// Of the pages.
    most_in_prefixes: usize,
}

struct Prefix<P> {
    positions: Vec<Position>,
    pages: Vec<Arc<P>>,
}

impl<P> Pages<P> {
    /// For so many positions at most; `prefix_positions` of these for prefixes.
    pub fn new(page_bytes: usize, positions: usize, prefix_positions: usize) -> Pages<P> {
        let [most, most_in_prefixes] = [positions, prefix_positions].map(|count| count.div_ceil(PAGE_POSITIONS));
        Pages { free: Vec::new(), page_bytes, made: 0, most, prefixes: Vec::new(), most_in_prefixes }
    }

    /// Of a page.
    pub fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    /// Bytes of the pages that exist, used or not.
    pub fn bytes(&self) -> usize {
        self.made * self.page_bytes
    }

    /// Those of prefixes among them.
    pub fn prefix_bytes(&self) -> usize {
        self.in_prefixes() * self.page_bytes
    }

    /// No two prefixes have the same page.
    fn in_prefixes(&self) -> usize {
        self.prefixes.iter().map(|prefix| prefix.pages.len()).sum()
    }

    /// A page for the caller alone. Who speaks goes before what is kept: where there is none, prefixes give way.
    pub fn take(&mut self, make: impl Fn() -> Result<P>) -> Result<Arc<P>> {
        loop {
            if let Some(page) = self.free.pop() {
                return Ok(page);
            }
            let made = if self.made < self.most { make() } else { Err(self.all_in_use()) };
            match made {
                Ok(page) => {
                    self.made += 1;
                    return Ok(Arc::new(page));
                }
                Err(error) if self.prefixes.is_empty() => return Err(error),
                Err(_) => self.forget_oldest(),
            }
        }
    }

    fn all_in_use(&self) -> Error {
        let what = format!(
            "all {} positions of keys and values are in use ({} bytes); give the engine more, or fewer streams",
            self.most * PAGE_POSITIONS,
            self.most * self.page_bytes
        );
        Error::compute("kv", what)
    }

    /// Takes a page back; the last who gives it back makes it free.
    pub fn give(&mut self, page: Arc<P>) {
        if Arc::strong_count(&page) == 1 {
            self.free.push(page);
        }
    }

    /// The pages of the prefix that is just these positions.
    pub fn prefix(&mut self, positions: &[Position]) -> Option<&[Arc<P>]> {
        let at = self.prefixes.iter().position(|prefix| prefix.positions == positions)?;
        self.prefixes[at..].rotate_left(1);
        self.prefixes.last().map(|prefix| &prefix.pages[..])
    }

    /// Whether a prefix of so many positions is to be kept. For one that is, the others make room, the one first that was not
    /// used for longest.
    pub fn make_room(&mut self, positions: usize) -> bool {
        let pages = positions.div_ceil(PAGE_POSITIONS);
        if positions < LEAST_POSITIONS || pages > self.most_in_prefixes {
            return false;
        }
        while self.in_prefixes() + pages > self.most_in_prefixes {
            self.forget_oldest();
        }
        true
    }

    /// Keeps a prefix for which there is room. Its pages' positions are written, or will be by work that is in the stream
    /// before whatever reads them.
    pub fn keep(&mut self, positions: &[Position], pages: Vec<Arc<P>>) {
        debug_assert_eq!(pages.len(), positions.len().div_ceil(PAGE_POSITIONS));
        self.prefixes.push(Prefix { positions: positions.to_vec(), pages });
    }

    fn forget_oldest(&mut self) {
        let Prefix { pages, .. } = self.prefixes.remove(0);
        pages.into_iter().for_each(|page| self.give(page));
    }
}

#[cfg(test)]
mod tests {
    //! Would catch: a page that is two speakers', or nobody's for ever; a prefix taken for another; more kept than is allowed,
    //! or the wrong one given up; speech that fails for what is merely kept.
    use super::*;
    use crate::prompt::CodecInput;
    use std::cell::Cell;

    /// Pages that are numbers, and the next one's.
    struct Numbered {
        pages: Pages<usize>,
        next: Cell<usize>,
    }

    impl Numbered {
        fn new(pages: usize, in_prefixes: usize) -> Numbered {
            let pages = Pages::new(10, pages * PAGE_POSITIONS, in_prefixes * PAGE_POSITIONS);
            Numbered { pages, next: Cell::new(0) }
        }

        fn take(&mut self) -> Result<Arc<usize>> {
            self.pages.take(|| Ok(self.next.replace(self.next.get() + 1)))
        }

        fn takes(&mut self, count: usize) -> Vec<Arc<usize>> {
            (0..count).map(|_| self.take().unwrap()).collect()
        }

        fn give(&mut self, pages: Vec<Arc<usize>>) {
            pages.into_iter().for_each(|page| self.pages.give(page));
        }

        /// Keeps a prefix in pages of its own.
        fn keep(&mut self, positions: &[Position]) -> bool {
            let room = self.pages.make_room(positions.len());
            if room {
                let pages = self.takes(positions.len().div_ceil(PAGE_POSITIONS));
                self.pages.keep(positions, pages);
            }
            room
        }
    }

    /// So many positions, unlike those of another number.
    fn positions(count: usize, which: u32) -> Vec<Position> {
        let position = |i| Position { text: which, codec: CodecInput::Id(i as u32) };
        (0..count).map(position).collect()
    }

    #[test]
    fn a_page_is_free_once_the_last_gives_it_back() {
        let mut pages = Numbered::new(2, 0);
        let page = pages.take().unwrap();
        let other = page.clone();
        pages.give(vec![page]);
        assert_eq!(*pages.take().unwrap(), 1, "the first is held");
        pages.give(vec![other]);
        assert_eq!(*pages.take().unwrap(), 0);
        let error = pages.take().unwrap_err().to_string();
        assert!(error.contains("all 128 positions") && error.contains("20 bytes"), "{error}");
        assert_eq!(pages.pages.bytes(), 20);
    }

    #[test]
    fn a_prefix_is_found_by_all_its_positions() {
        let mut pages = Numbered::new(9, 9);
        let kept = positions(70, 1);
        assert!(pages.keep(&kept));
        assert_eq!(pages.pages.prefix_bytes(), 20);
        let numbers: Vec<usize> = pages.pages.prefix(&kept).unwrap().iter().map(|page| **page).collect();
        assert_eq!(numbers, [0, 1]);
        for i in 0..kept.len() {
            let mut other = kept.clone();
            other[i].codec = CodecInput::Vector(vec![0.5]);
            assert!(pages.pages.prefix(&other).is_none(), "position {i}");
            assert!(pages.pages.prefix(&kept[..i]).is_none(), "the first {i}");
        }
        assert!(pages.pages.prefix(&positions(71, 1)).is_none());
        assert!(pages.pages.prefix(&positions(70, 2)).is_none());
        let voice =
            |x: f32| [kept.clone(), vec![Position { text: 0, codec: CodecInput::Vector(vec![x, 1.0]) }]].concat();
        assert!(pages.keep(&voice(0.1)));
        assert!(pages.pages.prefix(&voice(0.1)).is_some() && pages.pages.prefix(&voice(0.1f32.next_up())).is_none());
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let mut pages = Numbered::new(100, 4);
        let prefix = |which| positions(60 + which as usize, which); // the fifth has two pages
        for which in 1..=4 {
            assert!(pages.keep(&prefix(which)));
        }
        assert!(pages.pages.prefix(&prefix(1)).is_some());
        assert!(pages.keep(&prefix(5)));
        let kept: Vec<u32> = (1..=5).filter(|&which| pages.pages.prefix(&prefix(which)).is_some()).collect();
        assert_eq!(kept, [1, 4, 5]);
        assert_eq!((pages.pages.prefix_bytes(), pages.pages.bytes()), (40, 40), "their pages were used again");
        // Too long, or too short to be of use: nobody makes room.
        assert!(!pages.keep(&positions(4 * PAGE_POSITIONS + 1, 6)) && !pages.keep(&positions(LEAST_POSITIONS - 1, 6)));
        assert_eq!(pages.pages.prefix_bytes(), 40);
        assert!(pages.keep(&positions(4 * PAGE_POSITIONS, 6)) && pages.pages.prefix(&prefix(5)).is_none());
    }

    #[test]
    fn who_speaks_goes_before_what_is_kept() {
        let mut pages = Numbered::new(4, 4);
        assert!(pages.keep(&positions(64, 1)) && pages.keep(&positions(100, 2)));
        // One speaks behind the first prefix, and so holds its page.
        let shared = pages.pages.prefix(&positions(64, 1)).unwrap().to_vec();
        let own = pages.takes(1);
        assert!(pages.pages.prefix(&positions(64, 1)).is_some() && pages.pages.prefix(&positions(100, 2)).is_some());
        // The next two are those of the second: the page that somebody has is not among them, though its prefix is used longer
        // ago.
        let more = pages.takes(2);
        assert_eq!(more.iter().map(|page| **page).collect::<Vec<_>>(), [2, 1]);
        assert_eq!((*shared[0], *own[0]), (0, 3));
        assert_eq!(pages.pages.prefix_bytes(), 0);
        assert!(pages.take().is_err());
        pages.give(shared);
        assert_eq!(*pages.take().unwrap(), 0);
        // A device that has no more is as good a reason.
        let mut full = Numbered::new(9, 9);
        assert!(full.keep(&positions(20, 1)));
        let nothing = || Err(Error::compute("cuMemAlloc", "none left"));
        assert_eq!(*full.pages.take(nothing).unwrap(), 0);
        assert_eq!(full.pages.take(nothing).unwrap_err().to_string(), "cuMemAlloc: none left");
    }
}
