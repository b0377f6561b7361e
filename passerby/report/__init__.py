"""Figures on a data set of captions: are they true, do they vary, are they sound? As `report.json` and as one page.

`report.json` has these keys, which the data card reads. `null` is what was not measured; shares are 0 to 1, in 6 places.
Everything is counted on all captions, but `self_bleu_4`, which samples.

    format      "passerby-report"; version: 1
    source      kind, name, title, manifest_sha256, files, splits {SPLIT: images}
    captions    total, empty (in no other figure), per_image {NUMBER: images}
    images      total, repeated_keys (beyond the first of each key)
    people      total, images_with_person, images_per_person null|{mean, min, max}
    fidelity    attributes {NAME: values {VALUE: images} ("" is none or unknown), distinct, none_share,
                                  parts null|[{PART: images}] (of values with dots, such as colour, pattern and garment),
                                  confidence null|{mean, below_half, bins [20 counts of equal width over 0 to 1]}}
                not_attributes {COLUMN: reason}
                agreement null|{labels {name, rows, rows_unmatched, matched_by, images_matched}, ece_bins,
                                left_out [COLUMN, …] (no such attribute),
                                attributes {COLUMN: attribute, compared_as, compared, not_compared {REASON: images}, accuracy,
                                            balanced_accuracy, majority_share, ece null|…, thresholds null|[{confidence,
                                            coverage, accuracy}], classes {LABEL: {images, correct}}}}
    diversity   tokenisation, words, vocabulary, top_words {WORD: times} (100), distinct_captions, distinct_caption_share,
                distinct_1, distinct_2, distinct_3 (distinct n-grams over all n-grams of the set),
                self_bleu_4 {value, sample, of, seed, smoothing},
                shared_texts null|{texts (said of several people), people (of whom one is said), most_people}
    health      words {mean, min, max, histogram {LENGTH: captions}}
                tokens {clip_bpe: {mean, max, histogram, cut {"64": share, "77": …, "100": …}}, bert_wordpiece: null|same}
                lint {captions (with a fault), share, kinds {KIND: {captions, examples [{key, detail, caption}]}}}
                demographic_terms {perceived_gender, perceived_age, skin_or_ethnicity: {captions, share, classes {CLASS: captions},
                                   terms {TERM: captions}, examples}}
                duplicates null|{images (beyond the first of each group), groups, largest}
                image_sizes null|{images, width {min, median, max, histogram}, height, smallest [{key, width, height}]}
    comparison  null|{source, captions, figures [{group, name, this, other}], attributes [{attribute, distance, values [...]}]}
"""
