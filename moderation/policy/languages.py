"""Which prompts a model trained with English captions cannot read, as far as their characters and words tell. Pure.

It uses no dictionary: it knows scripts, emoji, letters that English has not, small words of other languages, and
where the vocabulary of the model is given, words that are not in it.
"""

import re
import unicodedata
from collections.abc import Callable, Set

_MANY_LANGUAGES = re.compile(
    r"xlm|multiling|i18n|siglip-?2|mt5|nllb|worldwide|chinese|\bcn-?clip|japanese|korean|jina-clip-v2|altclip|gopt",
    re.IGNORECASE,
)
_LOANWORDS = """
café cafés piñata piñatas jalapeño jalapeños naïve façade façades crème brûlée pâté purée sauté soufflé décor éclair éclairs
fiancé fiancée résumé cliché déjà entrée rosé touché über pokémon bébé château frappé açaí papier-mâché mâché señor gruyère
"""
_SMALL_WORDS = {
    "German": "ein eine einen einem einer und mit oder von auf zum zur kein keine nicht ist",
    "French": "une les des du et avec ou sur dans pas aux",
    "Spanish": "una unos unas el los las sobre del",
    "Italian": "uno una il gli di e della del",
    "Dutch": "een het met geen",
    "Portuguese": "uma os dos das",
    "Swedish": "och med på ett",
}
"""Words of other languages that English prompts do not contain."""
_ARTICLES = "un una um uma der das die den dem el le la les los las il lo gli een het de ein eine une uno"
"""English prompts do not begin with one of these."""
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")


def reads_many_languages(name: str, pretrained: str | None) -> bool:
    """Whether a model's name says that it was trained with captions in more languages than English."""
    return bool(_MANY_LANGUAGES.search(f"{name}/{pretrained or ''}"))


def words_of(text: str) -> list[str]:
    """The words of a text in small letters, without digits and marks."""
    return [word.lower() for word in _WORD.findall(text)]


def why_not_english(prompt: str, vocabulary: Set[str] | None = None, tokens: Callable[[str], int] | None = None) -> str:
    """Why a prompt does not look like English, in words; empty where it does.

    Args:
        prompt: the text.
        vocabulary: the words that the model was trained with, in small letters; None where they are not known.
        tokens: how many tokens the model makes of a word. One, of every word that was common in its captions.
    """
    if any(_is_emoji(char) for char in prompt):
        return "it contains an emoji, which captions do not have"
    scripts = {unicodedata.name(char, "?").split()[0].capitalize() for char in prompt if char.isalpha()}
    foreign = sorted(scripts - {"Latin", "Fullwidth", "Modifier", "Feminine", "Masculine", "?"})
    if foreign:
        return f"it is written in {_script(foreign[0])}"
    words = words_of(prompt)
    if vocabulary is not None:
        unknown = [word for word in words if not _known(word, vocabulary)]
        return f"the model never saw {_listed(unknown)}" if unknown else ""
    accented = [word for word in words if not word.replace("’", "'").isascii() and word not in _LOANWORDS.split()]
    if accented:
        return f"{_listed(accented)} is not an English word"
    if len(words) > 1 and words[0] in _ARTICLES.split() and not prompt.strip()[:2].isupper():
        return f"{words[0]!r} is not an English article"
    for language, small in _SMALL_WORDS.items():
        found = [word for word in words if word in small.split()]
        if found and len(words) > 1:
            return f"{found[0]!r} is {language}"
    noun = re.fullmatch(r"[A-Z][a-z]{3,}", prompt.strip())
    if noun and tokens is not None and tokens(noun[0].lower()) > 1:
        return f"{noun[0]!r} is not one of its common words, and has a capital letter like a German noun"
    return ""


def _is_emoji(char: str) -> bool:
    return ord(char) >= 0x1F000 or (ord(char) >= 0x2190 and unicodedata.category(char) == "So")


def _script(name: str) -> str:
    return {"Cjk": "Chinese characters", "Hiragana": "Japanese", "Katakana": "Japanese", "Hangul": "Korean"}.get(
        name, f"{name} letters"
    )


def _known(word: str, vocabulary: Set[str]) -> bool:
    forms = {word, word.removesuffix("s"), word.removesuffix("es"), f"{word}s", *re.split(r"['’-]", word)}
    return bool(forms & vocabulary) or word.replace("’s", "").replace("'s", "") in vocabulary


def _listed(words: list[str]) -> str:
    return " and ".join(repr(word) for word in dict.fromkeys(words[:3]))
