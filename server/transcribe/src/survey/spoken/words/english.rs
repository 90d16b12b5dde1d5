//! English.

use std::sync::LazyLock;

use super::{Words, phrases, words};

const UNITS: &str = "zero one two three four five six seven eight nine ten eleven twelve thirteen \
    fourteen fifteen sixteen seventeen eighteen nineteen";
const TENS: &str = "twenty thirty forty fifty sixty seventy eighty ninety";
const ORDINALS: &str = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth \
    thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth \
    twentieth";

pub(super) static WORDS: LazyLock<Words> = LazyLock::new(|| {
    let numbered = |text, from: u32, step| (from..).step_by(step).zip(words(text));
    let tens = numbered(TENS, 20, 10).chain([(1, "once"), (2, "twice")]);
    let numbers = numbered(UNITS, 0, 1).chain(tens);
    let ordinals = (1_u8..).zip(words(ORDINALS)).chain([(30, "thirtieth")]);
    Words {
        numbers: numbers
            .map(|(number, word)| (word.to_owned(), number))
            .collect(),
        hundred: "hundred",
        and: "and",
        units_first: false,
        thousands: ',',
        point: words("point"),
        minus: words("minus negative -"),
        times: words("x times"),
        nothing: words("none nothing never nil null"),
        changing: words(
            "than over under above below except between least most half quarter \
             thousand thousands million millions billion dozen hundreds hundred almost \
             nearly plus point minus",
        ),
        articles: words("a one"),
        one: words("one"),
        before_one: words(
            "have has had got only exactly about around number take with for be on minus",
        ),
        counted: words("day days time times week hour minute month year person child car a per"),
        before_pronoun: words("no that this which the any each every some another"),
        yes: words(
            "yes yeah yep yup yea aye sure correct right absolutely definitely \
             certainly indeed okay ok true affirmative exactly totally surely",
        ),
        no: words("no nope nah never false wrong negative incorrect"),
        plain: (words("yes yeah yep yup yea aye"), words("no nope nah")),
        negations: words(
            "not dont doesnt didnt isnt wasnt arent wont wouldnt cant cannot couldnt \
             havent hasnt neither nor without hardly except",
        ),
        yes_phrases: phrases(
            "why not, of course, no problem, no doubt, i do, i am, i have, i did, \
             i would, i will, it is, thats right, you bet, not a problem, \
             without a doubt, without doubt, dont mind if i do",
        ),
        no_phrases: phrases("of course not, no way, not at all, not really, i do not, i dont"),
        no_answer: phrases(
            "dont know, do not know, no idea, not sure, no clue, no opinion, \
             no comment, no answer, rather not say, rather not answer, \
             prefer not to say, prefer not to answer, dont want to say, \
             dont want to answer, do not want to answer, cant say, cannot say, \
             cant remember, dont remember, skip this, skip that, skip it, \
             skip the question, next question, havent a clue, havent got a clue, \
             who knows, beats me, hard to say, difficult to say",
        ),
        no_answer_alone: words("skip pass next dunno idk"),
        fillers: words(
            "um uh uhm er erm hm hmm mm ah oh well please thanks thank you so like i id \
             im think guess say would maybe probably just actually really honestly my \
             answer is its it that thats sorry the a and",
        ),
        months: words(
            "january february march april may june july august september october november december",
        ),
        ordinals: ordinals.map(|(day, word)| (word.to_owned(), day)).collect(),
    }
});
