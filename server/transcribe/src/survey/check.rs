//! What is only seen of a whole questionnaire: names that lead nowhere, questions nobody reaches, circles.

use std::collections::HashMap;

use super::{
    definition::{END, Question, Survey},
    document::Fault,
    read::{Draft, Places, unknown},
};

/// Where a question can lead; `questions.len()` is the end.
type Ways = Vec<Vec<usize>>;

pub(super) fn survey(mut draft: Draft, faults: &mut Vec<Fault>) -> Option<Survey> {
    if draft.questions.is_empty() {
        return None;
    }
    let resolved = ids(&draft, faults) & targets(&mut draft, faults);
    conditions(&draft, faults);
    // Wrong names make questions unreachable that are not.
    if resolved && faults.is_empty() {
        let ways = ways(draft.questions.iter().map(|(question, _)| question));
        circles(&draft, &ways, faults);
        unreachable(&draft, &ways, faults);
    }
    let questions = draft
        .questions
        .into_iter()
        .map(|(question, _)| question)
        .collect();
    faults
        .is_empty()
        .then(|| Survey::new(draft.id, draft.languages, questions, draft.open))
}

fn ids(draft: &Draft, faults: &mut Vec<Fault>) -> bool {
    let before = faults.len();
    let mut first: HashMap<&str, usize> = HashMap::new();
    for (Question { id, .. }, Places { line, .. }) in &draft.questions {
        if id == END {
            faults.push((
                *line,
                format!("no question is called `{END}`: it is the end of the interview"),
            ));
        }
        if let Some(first) = first.get(id.as_str()) {
            faults.push((
                *line,
                format!("the id `{id}` is that of the question in line {first}"),
            ));
        } else {
            first.insert(id, *line);
        }
    }
    faults.len() == before
}

fn targets(draft: &mut Draft, faults: &mut Vec<Fault>) -> bool {
    let before = faults.len();
    let names: Vec<String> = draft
        .questions
        .iter()
        .map(|(question, _)| question.id.clone())
        .collect();
    for (question, places) in &mut draft.questions {
        for (branch, line) in question.next.iter_mut().zip(&places.branches) {
            let name = &branch.target.name;
            branch.target.place = names.iter().position(|known| known == name);
            if branch.target.place.is_none() && name != END && !draft.faulty.contains(name) {
                let known = names.iter().map(String::as_str).chain([END]);
                faults.push((*line, unknown("the question", name, known)));
            }
        }
    }
    faults.len() == before
}

fn conditions(draft: &Draft, faults: &mut Vec<Fault>) {
    for (question, places) in &draft.questions {
        let mut always = false;
        for (branch, line) in question.next.iter().zip(&places.branches) {
            if always {
                faults.push((
                    *line,
                    "this branch is never taken: the one before it has no `when`".to_owned(),
                ));
            }
            match &branch.when {
                None => always = true,
                Some(when) => {
                    if let Err(message) = when.check(&question.kind) {
                        faults.push((*line, message));
                    }
                }
            }
        }
    }
}

fn ways<'q>(questions: impl ExactSizeIterator<Item = &'q Question>) -> Ways {
    let end = questions.len();
    let of = |(place, question): (usize, &Question)| {
        let named = question
            .next
            .iter()
            .map(|branch| branch.target.place.unwrap_or(end));
        let always = question.next.iter().any(|branch| branch.when.is_none());
        let following = (!always).then_some(place + 1);
        named.chain(following).collect()
    };
    questions.enumerate().map(of).collect()
}

/// Reports each way that leads back to a question already on it.
fn circles(draft: &Draft, ways: &Ways, faults: &mut Vec<Fault>) {
    let end = ways.len();
    let mut done = vec![false; end];
    for start in 0..end {
        // The way from `start` to where the search stands, with how many ways on have been tried there.
        let mut way: Vec<(usize, usize)> = if done[start] {
            Vec::new()
        } else {
            vec![(start, 0)]
        };
        while let Some((place, tried)) = way.last_mut() {
            let place = *place;
            let Some(next) = ways[place].get(*tried).copied() else {
                done[place] = true;
                way.pop();
                continue;
            };
            let branch = *tried;
            *tried += 1;
            if next == end || done[next] {
                continue;
            }
            if let Some(begin) = way.iter().position(|(on, _)| *on == next) {
                let circle = way[begin..].iter().map(|(on, _)| *on).chain([next]);
                let names = circle
                    .map(|on| draft.questions[on].0.id.as_str())
                    .collect::<Vec<_>>();
                let message = format!("the questions go in a circle: {}", names.join(", "));
                let Places { line, branches } = &draft.questions[place].1;
                faults.push((*branches.get(branch).unwrap_or(line), message));
            } else {
                way.push((next, 0));
            }
        }
    }
}

fn unreachable(draft: &Draft, ways: &Ways, faults: &mut Vec<Fault>) {
    let mut reached = vec![false; ways.len()];
    let mut open = vec![0];
    while let Some(place) = open.pop() {
        if place < ways.len() && !std::mem::replace(&mut reached[place], true) {
            open.extend(&ways[place]);
        }
    }
    for ((question, places), reached) in draft.questions.iter().zip(reached) {
        if !reached {
            faults.push((
                places.line,
                format!("no way leads to the question `{}`", question.id),
            ));
        }
    }
}

/// For each question, how many the longest way from it to the end has, itself included. There are no circles.
pub(super) fn longest_ways(survey: &Survey) -> Vec<usize> {
    let ways = ways(survey.questions.iter());
    let end = ways.len();
    let mut longest = vec![0; end + 1];
    let mut open: Vec<usize> = (0..end).rev().collect();
    while let Some(place) = open.last().copied() {
        if longest[place] > 0 {
            open.pop();
            continue;
        }
        let unknown = ways[place]
            .iter()
            .filter(|next| **next != end && longest[**next] == 0);
        let unknown: Vec<usize> = unknown.copied().collect();
        if unknown.is_empty() {
            longest[place] = 1 + ways[place]
                .iter()
                .map(|next| longest[*next])
                .max()
                .unwrap_or(0);
            open.pop();
        } else {
            open.extend(unknown);
        }
    }
    longest.truncate(end);
    longest
}
