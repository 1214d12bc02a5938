"""The two-letter codes of languages (ISO 639-1) and their English names."""

from __future__ import annotations

import re

_CODES = (
    "aa Afar, ab Abkhazian, af Afrikaans, ak Akan, am Amharic, an "
    "Aragonese, ar Arabic, as Assamese, av Avaric, ay Aymara, az "
    "Azerbaijani, ba Bashkir, be Belarusian, bg Bulgarian, bi Bislama, bm "
    "Bambara, bn Bengali, bo Tibetan, br Breton, bs Bosnian, ca Catalan, ce "
    "Chechen, co Corsican, cs Czech, cv Chuvash, cy Welsh, da Danish, de "
    "German, dv Divehi, dz Dzongkha, ee Ewe, el Greek, en English, eo "
    "Esperanto, es Spanish, et Estonian, eu Basque, fa Persian, ff Fula, fi "
    "Finnish, fj Fijian, fo Faroese, fr French, fy Frisian, ga Irish, gd "  # codespell:ignore fo
    "Gaelic, gl Galician, gn Guarani, gu Gujarati, gv Manx, ha Hausa, he "
    "Hebrew, hi Hindi, hr Croatian, ht Haitian Creole, hu Hungarian, hy "
    "Armenian, ia Interlingua, id Indonesian, ig Igbo, io Ido, is "
    "Icelandic, it Italian, iu Inuktitut, ja Japanese, jv Javanese, ka "
    "Georgian, kg Kongo, ki Kikuyu, kk Kazakh, kl Greenlandic, km Khmer, kn "
    "Kannada, ko Korean, ks Kashmiri, ku Kurdish, kv Komi, kw Cornish, ky "
    "Kyrgyz, la Latin, lb Luxembourgish, lg Ganda, li Limburgish, ln "
    "Lingala, lo Lao, lt Lithuanian, lv Latvian, mg Malagasy, mi Maori, mk "
    "Macedonian, ml Malayalam, mn Mongolian, mr Marathi, ms Malay, mt "
    "Maltese, my Burmese, nb Norwegian Bokmal, ne Nepali, nl Dutch, nn "
    "Norwegian Nynorsk, no Norwegian, nv Navajo, ny Chichewa, oc Occitan, "
    "om Oromo, or Odia, os Ossetian, pa Punjabi, pl Polish, ps Pashto, pt "
    "Portuguese, qu Quechua, rm Romansh, rn Rundi, ro Romanian, ru Russian, "
    "rw Kinyarwanda, sa Sanskrit, sc Sardinian, sd Sindhi, se Northern "
    "Sami, sg Sango, si Sinhala, sk Slovak, sl Slovenian, sm Samoan, sn "
    "Shona, so Somali, sq Albanian, sr Serbian, ss Swati, st Southern "
    "Sotho, su Sundanese, sv Swedish, sw Swahili, ta Tamil, te Telugu, tg "  # codespell:ignore te
    "Tajik, th Thai, ti Tigrinya, tk Turkmen, tl Tagalog, tn Tswana, to "
    "Tongan, tr Turkish, ts Tsonga, tt Tatar, tw Twi, ty Tahitian, ug "
    "Uyghur, uk Ukrainian, ur Urdu, uz Uzbek, ve Venda, vi Vietnamese, wa "
    "Walloon, wo Wolof, xh Xhosa, yi Yiddish, yo Yoruba, za Zhuang, zh "
    "Chinese, zu Zulu"
)

LANGUAGES: dict[str, str] = {
    code: name
    for code, _, name in (" ".join(entry.split()).partition(" ") for entry in _CODES.split(","))
}


def language_name(column: str) -> str | None:
    """Return the language that a column is named by (`de`, `translation.de`, `my_MM`), or None."""
    code = column.rpartition(".")[2]
    if not re.fullmatch(r"[A-Za-z]{2}([_-][A-Za-z]{2,4})?", code):
        return None
    return LANGUAGES.get(code[:2].lower())
