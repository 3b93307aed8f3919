"""Builds concepts.json: which emoji the demo model knows, and every caption that names them.

Source: the English CLDR annotations (`annotations.json` of the npm package cldr-annotations-full, Unicode-3.0
licence) and the Unicode character names that Python carries. Glyphs that look alike are left out, by list (clock
faces, flags, buttons, ...) and by pixel distance.
"""

from __future__ import annotations

import argparse
import json
import sys
import unicodedata
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from moderation.demo import CONCEPTS_FILE
from moderation.demo.training.render import FontMissingError, draw_glyph, find_font

# Glyphs that a small model cannot be asked to tell apart at 64 pixels, or whose name says nothing about the picture.
LEFT_OUT = frozenset(
    # faces that differ by the shape of one eye or mouth
    "😃😄😁🙂☺😊😚😙😗🤗😑😯😮😦😧😥😞😣😖😫😩🙁😟😕😌😔😪😓😲🫤🫥😶🙃🤥🫢😛😜🤭🥹🥺😢😏😒🙄🤨😠😰😨😳🫨🫠🥲"
    # cat faces but one, monkeys, animal faces beside the whole animal
    "😸😹😻😼😽🙀😿😾🙉🙊🐥🐤🐄🐂🐖🐁🐐🐑🐇🐅🐈🐪🦮🐋🐎🐒🐏🦌🐕"
    # hearts that differ by ornament only
    "💝💓💗💖💞❣💟♥🩵🩶"
    # hands and arms
    "🤚🖐🫱🫲🫳🫴🫷🫸🤏🤌🫰👈👉👆👇☝🤛🤜👐🤲🙌🤘🤝🖕👊🤙🫵✋"
    # people: variants of gender, age and posture
    "🧒👦👧🧑👱👨🧔👩🧓👴👵🙍🙎🙅🙆💁🙋🧏🙇🤦🤷👷🫅👳👲🧕👰🤰🫃🫄🤱🤶🦹🧝💆💇🚶🧍🧎👯🧖👭👫👬💏💑👪👥🦰🦱🦳🦲👤🫂🧏🏃🤾🤽⛹"
    "🚵🤼🏌🛌🕴👼🧙🧌🧟🤵👮🗣"
    # globes, buildings, skies
    "🌎🌏🏣🏤🏢🏬🏨🏩🏘🏡🏪🏦🌃🌆🌇🌅🌁🗻⛰🌉🏫🌄🏚🏞🏜💒🏥🏕"
    # trains, cars and boats seen from another side
    "🚃🚄🚆🚇🚈🚉🚊🚝🚞🚋🚍🚔🚖🚘🚙🚎🚐🛻🛳⛴🛥🚟🚠🛩🛫🛬🚛"
    # clocks and moons
    "🕛🕧🕐🕜🕑🕝🕒🕞🕓🕟🕔🕠🕕🕡🕖🕢🕗🕣🕘🕤🕙🕥🕚🕦🌑🌒🌓🌔🌕🌖🌗🌘🌚🌛🌜🌝⏳⏱⏲"
    # weather with the same cloud
    "⛅⛈🌤🌥🌦🌨🌩🌟☂☄⛄🌀🌫🏵💮🌌"
    # office: pages, folders, mailboxes, speakers, envelopes, phones, charts, banknotes
    "📃📄📗📙📓📔📘📑🗒🗓📆📂🗂🗃📪📬📭🔈🔉🔕📲📵📴📳📨📩📧📤📥💷💶💴💹📉📊🔏🔐🔓🔎🎶🎵🗨🗯👁💿💽🖋🖊📸📼🪫📟📇🗞🔖🎗🎫🏷"
    "🏅🎖🥈🥉🥇🎏🎑🎋🎍👝👡👞🥿👛🩲🩱👚🧥🎓"
    # card suits, buttons, arrows, signs, geometry, zodiac
    "♠♦♣▶⏩⏭⏯◀⏪⏮🔼⏫🔽⏬⏸⏹⏺⏏🎦🔅🔆📶🛜♀♂⚧✖➕➖➗🟰♾‼⁉❓❔❕❗〰💱💲⚕⚜🔱📛🔰⭕✅☑✔❌❎➰➿〽✳✴❇™🔠🔡🔢🔣🔤🅰🆎🅱🆑🆒🆓"
    "ℹ🆔Ⓜ🆕🆖🅾🆗🅿🆘🆙🆚🈁🈂🈷🈶🈯🉐🈹🈚🈲🉑🈸🈴🈳㊗㊙🈺🈵🔴🟠🟡🟢🔵🟣🟤⚫⚪🟥🟧🟨🟩🟦🟪🟫⬛⬜◼◻◾◽▪▫🔶🔷🔸🔹🔺🔻💠🔘🔳🔲"
    "⬆↗➡↘⬇↙⬅↖↕↔↩↪⤴⤵🔃🔄🔙🔚🔛🔜🔝♈♉♊♋♌♍♎♏♐♑♒♓⛎🔀🔁🔂🛐⚛🕉✡☸☯✝☦☪☮🕎🔯🪯🏧🚮🚰♿🚹🚺🚻🚼🚾🛂🛃🛄🛅🚸🚳🚯🚱🚷🔞"
    "🏻🏼🏽🏾🏿🎌🏴🏳💫💢💨💦🫗🚏🛑💤🧮🀄🗾🎐🔇💬🪹🔩"
)

# First and last glyph in CLDR's order, and the words that name all of them.
CATEGORIES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("😀", "👿", ("face", "smiley")),
    ("👋", "✍", ("hand",)),
    ("👶", "🧘", ("person", "people")),
    ("🐵", "🐾", ("animal",)),
    ("🦃", "🪿", ("animal", "bird")),
    ("🐸", "🐲", ("animal", "reptile")),
    ("🐳", "🐡", ("animal", "fish")),
    ("🐌", "🪱", ("animal", "insect")),
    ("💐", "🪻", ("flower", "plant")),
    ("🌱", "🍃", ("plant",)),
    ("🍇", "🥥", ("fruit", "food")),
    ("🥑", "🫛", ("vegetable", "food")),
    ("🍞", "🥡", ("food", "meal")),
    ("🍦", "🍯", ("dessert", "food")),
    ("🏟", "🕋", ("building",)),
    ("🚂", "🛼", ("vehicle",)),
    ("⛵", "🚢", ("boat", "vehicle")),
    ("✈", "🛸", ("aircraft", "vehicle")),
    ("☀", "🌊", ("weather",)),
    ("⚽", "🥌", ("sport",)),
    ("👓", "👢", ("clothing", "clothes")),
    ("🎷", "🪈", ("musical instrument",)),
    ("📱", "📷", ("electronics",)),
    ("📕", "📚", ("book",)),
    ("🔨", "🪜", ("tool",)),
    ("🚪", "🛒", ("household object",)),
)

# Names that people will look for and CLDR does not give, or gives to too many glyphs to pass the rule below.
ADDED: dict[str, tuple[str, ...]] = {
    "🔫": ("pistol", "gun", "handgun", "firearm", "toy gun", "weapon"),
    "🔪": ("knife", "kitchen knife", "hocho", "chef's knife", "weapon"),
    "🗡": ("dagger", "knife", "dagger knife", "blade", "weapon"),
    "⚔": ("crossed swords", "swords", "sword", "weapon"),
    "🪓": ("axe", "hatchet", "weapon"),
    "🏹": ("bow and arrow", "archery", "weapon"),
    "💣": ("bomb", "explosive", "weapon"),
    "🧨": ("firecracker", "dynamite"),
    "🚬": ("cigarette", "smoking", "smoking symbol", "tobacco", "burning cigarette"),
    "🚭": ("no smoking", "no smoking sign", "smoking ban"),
    "🍺": ("beer", "beer mug", "alcohol", "glass of beer"),
    "🍻": ("beers", "clinking beer mugs", "two beer mugs", "alcohol"),
    "🍷": ("wine", "wine glass", "red wine", "alcohol"),
    "🍸": ("cocktail", "cocktail glass", "martini", "alcohol"),
    "🍹": ("tropical drink", "cocktail", "alcohol"),
    "🍾": ("champagne", "champagne bottle", "bottle with popping cork", "sparkling wine", "alcohol"),
    "🥂": ("clinking glasses", "champagne glasses", "toast with champagne", "alcohol"),
    "🥃": ("whisky", "whiskey", "glass of whisky", "tumbler glass", "liquor", "alcohol"),
    "🍶": ("sake", "sake bottle", "sake bottle and cup", "rice wine", "alcohol"),
    "🎰": ("slot machine", "gambling", "gambling machine", "casino"),
    "🎲": ("dice", "game die", "die", "gambling"),
    "🃏": ("joker", "playing card", "playing card joker", "gambling"),
    "🎴": ("flower playing cards", "playing cards", "hanafuda", "gambling"),
    "💊": ("pill", "pills", "medicine", "medication", "drug", "drugs", "capsule"),
    "💉": ("syringe", "injection", "needle", "medication", "vaccine"),
    "🐶": ("dog", "dog face", "puppy"),
    "🐱": ("cat", "cat face", "kitten"),
    "🐴": ("horse", "horse face"),
    "🐮": ("cow", "cow face"),
    "🐷": ("pig", "pig face"),
    "🐭": ("mouse face",),
    "🐰": ("rabbit", "rabbit face", "bunny"),
    "☕": ("coffee", "tea", "cup of coffee", "hot drink"),
    "🍵": ("green tea", "cup of tea", "tea"),
    "🥛": ("milk", "glass of milk"),
    "🥤": ("soft drink", "soda", "lemonade"),
    "🧃": ("juice", "juice box"),
    "🔨": ("hammer",),
    "🚗": ("car", "automobile"),
    "🍕": ("pizza", "slice of pizza"),
    "🍔": ("burger", "hamburger"),
    "🚲": ("bicycle", "bike"),
    "📷": ("camera",),
    "📱": ("phone", "mobile phone", "smartphone"),
    "👟": ("sneaker", "running shoe", "shoe"),
    "👗": ("dress",),
    "👕": ("t-shirt", "shirt"),
    "👜": ("handbag",),
    "🎮": ("video game", "game controller"),
}

MOST_CONCEPTS_PER_KEYWORD = 3
LEAST_DISTANCE = 0.105  # see _distance
_UNHELPFUL_WORDS = """
143 24 7 100 adorbs bae bestest booty cute fart faithful fleek goat ily lit lmao lol obvi omg poop sexy slay sus
thx tbh true vibe vibes whatevs xoxo yolo yup zzz a+ tool game place sign symbol thing things good great new old
red blue green yellow orange purple black white brown pink grey gray color big small light dark one two three
"""
UNHELPFUL = frozenset(_UNHELPFUL_WORDS.split())


@dataclass(frozen=True)
class Concept:
    """One thing the demo model knows: its glyph, its names (the first is CLDR's), and the wider words for it."""

    glyph: str
    unicode_name: str
    captions: tuple[str, ...]
    categories: tuple[str, ...]


def load_concepts(path: Path = CONCEPTS_FILE) -> list[Concept]:
    """The concepts as committed, in CLDR's order."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    return [Concept(row["glyph"], row["unicode_name"], tuple(row["captions"]), tuple(row["categories"])) for row in rows]


def _thumbnail(glyph: Image.Image) -> NDArray[np.float32]:
    """Premultiplied float32 [24, 24, 4], 0-1."""
    small = np.asarray(glyph.resize((24, 24), Image.Resampling.BOX), dtype=np.float32) / 255
    return np.concatenate([small[..., :3] * small[..., 3:], small[..., 3:]], axis=2)


def _distance(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Mean difference per pixel of ink: 0 for the same picture."""
    return float(np.abs(one - other).sum() / 4 / np.maximum(one[..., 3], other[..., 3]).sum())


def _distinct(glyphs: list[str], font: Path) -> list[str]:
    """The glyphs whose picture is far enough from every one kept before it; those with added names go first."""
    kept: list[str] = []
    seen: list[NDArray[np.float32]] = []
    for glyph in sorted(glyphs, key=lambda g: g not in ADDED):
        picture = draw_glyph(glyph, font)
        if picture is None:
            continue
        thumbnail = _thumbnail(picture)
        distances = [_distance(thumbnail, pixels) for pixels in seen]
        if distances and min(distances) < LEAST_DISTANCE:
            twin = kept[distances.index(min(distances))]
            print(f"left out {glyph}: looks like {twin} ({min(distances):.3f})", file=sys.stderr)
            continue
        kept.append(glyph)
        seen.append(thumbnail)
    return [glyph for glyph in glyphs if glyph in set(kept)]


def build(annotations: Path, font: Path) -> list[Concept]:
    """Read CLDR's annotations and return the concepts, in its order."""
    table = json.loads(annotations.read_text(encoding="utf-8"))["annotations"]["annotations"]
    order = [glyph for glyph in table if len(glyph) == 1]
    candidates = [g for g in order if ord(g) >= 0x203C and "tts" in table[g] and g not in LEFT_OUT]
    glyphs = _distinct(candidates, font)
    uses = Counter(word.lower() for glyph in glyphs for word in set(table[glyph].get("default", [])))
    place = {glyph: number for number, glyph in enumerate(order)}
    concepts = []
    for glyph in glyphs:
        unicode_name = unicodedata.name(glyph, table[glyph]["tts"][0]).lower()
        words = [table[glyph]["tts"][0].lower(), unicode_name, *ADDED.get(glyph, ())]
        words += [
            word.lower()
            for word in table[glyph].get("default", [])
            if uses[word.lower()] <= MOST_CONCEPTS_PER_KEYWORD and word.lower() not in UNHELPFUL and len(word) > 2
        ]
        wider = [word for first, last, names in CATEGORIES if place[first] <= place[glyph] <= place[last] for word in names]
        concepts.append(Concept(glyph, unicode_name, tuple(dict.fromkeys(words)), tuple(dict.fromkeys(wider))))
    return concepts


def main(arguments: list[str] | None = None) -> int:
    """Build concepts.json; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m moderation.demo.training.concepts", description=__doc__)
    parser.add_argument("annotations", type=Path, help="CLDR's annotations/en/annotations.json")
    parser.add_argument("--font", type=Path, help="NotoColorEmoji.ttf, where it is not in a usual place")
    parser.add_argument("--output", type=Path, default=CONCEPTS_FILE, help="default: %(default)s")
    options = parser.parse_args(arguments)
    try:
        concepts = build(options.annotations, find_font(options.font))
    except (FontMissingError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    lines = ",\n".join(" " + json.dumps(asdict(concept), ensure_ascii=False) for concept in concepts)
    options.output.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    print(f"{len(concepts)} concepts, {sum(len(c.captions) for c in concepts)} captions -> {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
