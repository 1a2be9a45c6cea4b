//! The choice of a batch once more, in the plainest way and without regard to speed: what the queue's property tests compare it
//! with.

use std::collections::HashMap;

use super::*;

/// What waits, in the plainest way: a list, and how many rows every flow has had.
struct Plain<'a> {
    limit: usize,
    now: Instant,
    waiting: Vec<&'a Piece>,
    had: HashMap<(u32, u64), usize>,
    passed: Vec<&'a Piece>,
    /// Members of a batch so far, in the order in which they came into it.
    taken: Vec<&'a Piece>,
    dropped: Vec<usize>,
}

fn all_rows(pieces: &[&Piece]) -> usize {
    pieces.iter().map(|piece| piece.rows).sum()
}

impl<'a> Plain<'a> {
    /// The next in the order of levels and tenants.
    fn pop(&mut self) -> Option<&'a Piece> {
        let is_head = |at: &usize| {
            let flow = |piece: &Piece| (piece.level, piece.tenant);
            self.waiting[..*at].iter().all(|before| flow(before) != flow(self.waiting[*at]))
        };
        let heads: Vec<usize> = (0..self.waiting.len()).filter(is_head).collect();
        let age = |at: &&usize| self.waiting[**at].queued + AGEING * (self.waiting[**at].level - 1);
        let level = self.waiting[*heads.iter().min_by_key(age)?].level;
        let of_level = heads.iter().filter(|at| self.waiting[**at].level == level);
        let had = |at: &&usize| {
            let piece = self.waiting[**at];
            (self.had.get(&(level, piece.tenant)).copied().unwrap_or(0), piece.queued)
        };
        let piece = self.waiting.remove(*of_level.min_by_key(had)?);
        *self.had.entry((piece.level, piece.tenant)).or_default() += piece.rows;
        Some(piece)
    }

    fn refund(&mut self, piece: &Piece) {
        *self.had.entry((piece.level, piece.tenant)).or_default() -= piece.rows;
    }

    fn put_back(&mut self, piece: &'a Piece) {
        self.refund(piece);
        self.waiting.push(piece);
        self.waiting.sort_by_key(|piece| piece.id);
    }

    fn is_late(&self, piece: &Piece, rows: usize) -> bool {
        piece.deadline.is_some_and(|deadline| deadline < self.now + cost(rows).unwrap())
    }

    /// As many rows as twice fit into the head's time.
    fn target(&self, head: &Piece) -> usize {
        let Some(deadline) = head.deadline else { return self.limit };
        (1..=self.limit).rev().find(|rows| cost(*rows).unwrap() * 2 <= deadline - head.queued).unwrap_or(1)
    }

    fn fill(&mut self, window: &mut Vec<&'a Piece>, target: &mut usize) {
        while window.is_empty() || all_rows(window) < *target {
            let Some(next) = self.pop() else { return };
            if next.gone || next.deadline.is_some_and(|deadline| deadline <= self.now) {
                self.refund(next);
            } else if window.first().is_some_and(|head| head.key != next.key) {
                self.passed.push(next);
            } else if !window.is_empty() && all_rows(window) + next.rows > *target {
                return self.put_back(next);
            } else {
                if window.is_empty() {
                    *target = self.target(next);
                }
                window.push(next);
                self.taken.push(next);
            }
        }
    }

    /// Drops those of a window that are late even alone; true when there were any.
    fn drop_hopeless(&mut self, window: &mut Vec<&'a Piece>) -> bool {
        let (gone, rest): (Vec<&Piece>, _) = window.iter().partition(|piece| self.is_late(piece, piece.rows));
        *window = rest;
        self.taken.retain(|piece| !gone.iter().any(|gone| gone.id == piece.id));
        for piece in &gone {
            self.refund(piece);
            self.dropped.push(piece.id);
        }
        if window.is_empty() {
            std::mem::take(&mut self.passed).into_iter().for_each(|piece| self.put_back(piece));
        }
        !gone.is_empty()
    }

    /// From the most patient on, whoever can afford the batch with himself in it.
    fn patient(&self, window: &[&'a Piece]) -> Vec<&'a Piece> {
        let (mut unlimited, mut limited): (Vec<&Piece>, Vec<&Piece>) =
            window.iter().partition(|piece| piece.deadline.is_none());
        limited.sort_by_key(|piece| piece.deadline);
        // Of those that have the same time, the first is first.
        limited.reverse();
        limited.chunk_by_mut(|a, b| a.deadline == b.deadline).for_each(<[_]>::reverse);
        for piece in limited {
            if !self.is_late(piece, all_rows(&unlimited) + piece.rows) {
                unlimited.push(piece);
            }
        }
        window.iter().filter(|piece| unlimited.iter().any(|stays| stays.id == piece.id)).copied().collect()
    }

    /// The same; but who brings at least as much as the batch has without him ends the window, if that makes it no smaller.
    fn outweighing(&self, window: &[&'a Piece]) -> (Vec<&'a Piece>, bool) {
        let (mut chosen, mut cut) = (self.patient(window), false);
        for (at, piece) in window.iter().enumerate() {
            let place = |of: &Piece| window.iter().position(|known| known.id == of.id);
            let passed = place(chosen.last().unwrap()) > Some(at) && chosen.iter().all(|stays| stays.id != piece.id);
            let shorter = self.patient(&window[..=at]);
            if passed && piece.rows >= all_rows(&chosen) && all_rows(&shorter) >= all_rows(&chosen) {
                (chosen, cut) = (shorter, true);
            }
        }
        (chosen, cut)
    }

    fn drop_early(&mut self, window: &[&'a Piece], mut target: usize) -> Vec<&'a Piece> {
        let (mut current, mut cut) = self.outweighing(window);
        let (mut chosen, mut in_vain) = (current.clone(), 0);
        while !cut && in_vain < taking::IN_VAIN {
            let mut wider = current.clone();
            loop {
                self.fill(&mut wider, &mut target);
                // Those that were there before are not.
                if !self.drop_hopeless(&mut wider) {
                    break;
                }
            }
            if wider.len() == current.len() {
                break;
            }
            (current, cut) = self.outweighing(&wider);
            in_vain += 1;
            if all_rows(&current) > all_rows(&chosen) {
                (chosen, in_vain) = (current.clone(), 0);
            }
        }
        let last = chosen.last().unwrap().id;
        let in_front = self.taken.iter().take_while(|piece| piece.id != last);
        let left_out = in_front.filter(|piece| chosen.iter().all(|stays| stays.id != piece.id));
        self.dropped.extend(left_out.map(|piece| piece.id));
        chosen
    }
}

/// Which pieces the policy runs and drops.
pub(super) fn naive(waiting: &[Piece], limit: usize, now: Instant) -> (Vec<usize>, Vec<usize>) {
    let (waiting, had) = (waiting.iter().collect(), HashMap::new());
    let (passed, taken, dropped) = (Vec::new(), Vec::new(), Vec::new());
    let mut plain = Plain { limit, now, waiting, had, passed, taken, dropped };
    let (mut window, mut target) = (Vec::new(), 0);
    let batch = loop {
        plain.fill(&mut window, &mut target);
        let rows = all_rows(&window);
        let Some(late) = window.iter().position(|piece| plain.is_late(piece, rows)) else { break window };
        if plain.drop_hopeless(&mut window) {
            if let Some(head) = window.first() {
                target = plain.target(head);
                while window.len() > 1 && all_rows(&window) > target {
                    let piece = window.pop().unwrap();
                    plain.taken.retain(|taken| taken.id != piece.id);
                    plain.put_back(piece);
                }
            }
            continue;
        }
        let (first, second) = window.split_at(late + 1);
        let both = cost(all_rows(first)).unwrap() + cost(all_rows(second)).unwrap();
        let later = |piece: &&Piece| piece.deadline.is_none_or(|deadline| deadline >= now + both);
        let first_in_time = first.iter().all(|piece| !plain.is_late(piece, all_rows(first)));
        let nothing_else = plain.waiting.is_empty() && plain.passed.is_empty();
        if nothing_else && !second.is_empty() && first_in_time && second.iter().all(later) {
            // What was cut off waits on.
            break first.to_vec();
        }
        break plain.drop_early(&window, target);
    };
    (batch.iter().map(|piece| piece.id).collect(), plain.dropped)
}
