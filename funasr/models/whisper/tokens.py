"""Where the special tokens of a Whisper vocabulary lie, and its languages in order."""

from __future__ import annotations

from dataclasses import dataclass

from funasr.utils.errors import ConfigError

_LANGUAGES = (
    "en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th ur hr bg lt "
    "la mi ml cy sk te fa lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr pa si km sn yo so af oc "
    "ka be tg sd gu am yi lo uz fo ht ps tk nn mt sa lb my bo tl mg as tt haw ln ha ba jw su yue"
)
LANGUAGES = tuple(_LANGUAGES.split())
TIMESTAMPS = 1501  # <|0.00|> ... <|30.00|>
TIMESTAMP_MS = 20
_ENGLISH_VOCAB = 51864  # one text token less than the multilingual vocabularies


@dataclass(frozen=True)
class SpecialIds:
    """Ids of the tokens behind the text tokens.

    Order: <|endoftext|> <|startoftranscript|>, languages, <|translate|> <|transcribe|> <|startoflm|> <|startofprev|>
    <|nospeech|> <|notimestamps|>, time stamps.
    """

    eot: int
    num_languages: int
    multilingual: bool

    @classmethod
    def of_vocab(cls, n_vocab: int, num_languages: int | None = None) -> SpecialIds:
        """The layout of a vocabulary of n_vocab tokens; num_languages is needed for sizes that were not released."""
        multilingual = n_vocab != _ENGLISH_VOCAB
        if num_languages is None:
            num_languages = n_vocab - _ENGLISH_VOCAB + 99 - int(multilingual)
        text = n_vocab - TIMESTAMPS - num_languages - 8
        if not 0 < num_languages <= len(LANGUAGES) or text < 1:
            raise ConfigError(
                f"a vocabulary of {n_vocab} tokens has no place for {num_languages} languages and {TIMESTAMPS} time "
                "stamps; give num_languages in model_conf and tokenizer_conf"
            )
        return cls(text, num_languages, multilingual)

    @property
    def sot(self) -> int:
        return self.eot + 1

    @property
    def translate(self) -> int:
        return self.sot + 1 + self.num_languages

    @property
    def transcribe(self) -> int:
        return self.translate + 1

    @property
    def no_timestamps(self) -> int:
        return self.translate + 5

    @property
    def first_timestamp(self) -> int:
        return self.no_timestamps + 1

    @property
    def languages(self) -> range:
        return range(self.sot + 1, self.translate)

    @property
    def never_said(self) -> tuple[int, ...]:
        """Tokens that stand in a prompt and never in an answer."""
        return tuple(range(self.sot, self.first_timestamp))

    def language_id(self, language: str) -> int:
        """Id of a language code; ConfigError names the known ones."""
        known = LANGUAGES[: self.num_languages]
        if language not in known:
            raise ConfigError(f"Whisper does not know the language '{language}'; known: auto, {', '.join(known)}")
        return self.sot + 1 + known.index(language)

    def names(self) -> list[str]:
        """The special tokens as strings, in order."""
        return [
            "<|endoftext|>",
            "<|startoftranscript|>",
            *(f"<|{code}|>" for code in LANGUAGES[: self.num_languages]),
            *("<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>"),
            "<|notimestamps|>",
            *(f"<|{index * TIMESTAMP_MS / 1000:.2f}|>" for index in range(TIMESTAMPS)),
        ]
