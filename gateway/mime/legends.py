"""Whether a legend or banner already stands in a text. Puts none there: that is the transforms' work."""

from collections.abc import Sequence

from gateway.mime.quoting import fold_words, phrase_forms


def legend_present(text: str, lines: Sequence[str]) -> bool:
    """True when the lines stand in the text one after the other, anywhere, quoted text included.

    Once in a thread is enough (clause roc/legend): a reply that quotes the legend needs no second one. Compared like
    wordings: without case, and whatever white space, ``>`` marks or punctuation stand between the words. For HTML pass
    :func:`gateway.mime.quoting.html_text` of it. A legend without a word is present nowhere.
    """
    forms = phrase_forms("\n".join(lines))
    if not forms:
        return False
    folded = fold_words(text)
    return any(form in folded for form in forms)
