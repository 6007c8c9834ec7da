//! What codecs remember after a voice's reference: an utterance in that voice starts from a copy, and hears nothing. Owns how
//! many are kept and which one goes; the states are a backend's.

use crate::frame::Frame;

/// References whose states are kept at most: 6 MB each at the published sizes.
const MOST: usize = 16;

/// States by the frames that were heard.
pub(crate) struct Primed<S>(Vec<(Vec<Frame>, S)>); // the last used at the end

impl<S> Default for Primed<S> {
    fn default() -> Primed<S> {
        Primed(Vec::new())
    }
}

impl<S> Primed<S> {
    /// The state after these frames; it is now the last used.
    pub fn find(&mut self, frames: &[Frame]) -> Option<&S> {
        let at = self.0.iter().position(|(heard, _)| heard == frames)?;
        let found = self.0.remove(at);
        self.0.push(found);
        self.0.last().map(|(_, state)| state)
    }

    /// Where there is no room for another, gives up the one that was not used for longest.
    pub fn make_room(&mut self) -> Option<S> {
        (self.0.len() >= MOST).then(|| self.0.remove(0).1)
    }

    /// Keeps a state that was not found.
    pub fn keep(&mut self, frames: Vec<Frame>, state: S) {
        self.make_room();
        self.0.push((frames, state));
    }

    /// How many are kept.
    #[cfg(any(feature = "cuda", test))]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    //! Would catch: states that grow without end, another voice's state, and the one in use that goes first.
    use super::*;

    #[test]
    fn the_one_not_used_for_longest_goes() {
        let reference = |i: usize| vec![[i as u16; 16], [1; 16]];
        let mut primed = Primed::default();
        (0..MOST).for_each(|i| primed.keep(reference(i), i));
        assert_eq!(primed.find(&reference(0)), Some(&0));
        assert_eq!(primed.find(&reference(0)[..1]), None);
        primed.keep(reference(MOST), MOST);
        assert_eq!(primed.find(&reference(1)), None);
        assert_eq!(primed.count(), MOST);
        assert_eq!([0, 2, MOST].map(|i| primed.find(&reference(i)).copied()), [0, 2, MOST].map(Some));
        assert_eq!(primed.make_room(), Some(3));
        assert_eq!(primed.make_room(), None);
        assert_eq!(primed.count(), MOST - 1);
    }
}
