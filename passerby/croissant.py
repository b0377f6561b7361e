"""Croissant: the description of a data set that machines read, `croissant.json`, as plain JSON.

Source: Croissant format 1.1 and Croissant RAI 1.0 (MLCommons), as far as `mlcroissant` 1.1 reads them: it joins two sources at
most, holds the images of a record set in memory, and unpacks the tars into its cache under a hash of their relative names, so
that every data set needs a cache of its own (`CROISSANT_CACHE`). That is enough to look in and to check, not to train.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from passerby.shards.manifest import Manifest

CONFORMS_TO = ("http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0")
CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The names of version 1.1, as `mlcroissant` expects them in every file."""

DATA_TYPES = {
    "string": "sc:Text",
    "int16": "cr:Int16",
    "int32": "cr:Int32",
    "double": "cr:Float64",
    "bool": "sc:Boolean",
}
"""Arrow's names of types, and those of Croissant."""

MEDIA_TYPES = {
    "jpg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "json": "application/json",
    "txt": "text/plain",
}
SPLIT_KINDS = {
    "train": "cr:TrainingSplit",
    "val": "cr:ValidationSplit",
    "test": "cr:TestSplit",
    "query": "cr:TestSplit",
    "gallery": "cr:TestSplit",
}
"""Names of splits, and what Croissant calls them; in Re-ID a test asks queries of a gallery."""

PARQUET = "application/x-parquet"
TABLES = "tables"
"""The file set of `meta/*.parquet`."""

STATUS = {
    "status": "`kept` or `rejected`.",
    "reason": "Why it was left out, in few words; null where it was kept.",
    "detail": "Why it was left out, in a sentence.",
}
"""The columns of a table that no sample has."""


def croissant(
    manifest: Manifest,
    *,
    images: Sequence[str],
    extras: Sequence[str],
    told: Mapping[str, Any],
    responsible_ai: Mapping[str, Any],
) -> dict[str, Any]:
    """Describe a data set in Croissant's words; hashes and sizes are those of the manifest.

    Args:
        manifest: of the data set.
        images: extensions of the images in the shards; none where only captions are there.
        extras: further members of a sample, such as `parsing.png`.
        told: entries on the whole: name, description, licence and the like.
        responsible_ai: entries of the RAI vocabulary, without their prefix.

    Returns:
        The content of `croissant.json`. Its record sets: `splits`; `samples`, with the image where there is one; `inputs`, a
        row for everything that was seen, kept or not; and one for each of `extras`, such as `parsing`.
    """
    text = _Members("text", ("txt",)) if manifest.has_captions else _Members("fields", ("json",))
    anchor = _Members("image", tuple(images)) if images else text
    # The anchor comes last in `distribution`: of several file sets in one tar, mlcroissant can join only the last.
    others = [_Members(name.partition(".")[0], (name,)) for name in extras]
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": list(CONFORMS_TO),
        **told,
        **{f"rai:{name}": value for name, value in responsible_ai.items()},
        "distribution": [*_files(manifest), _tables(), *(_file_set(manifest, one) for one in (*others, anchor))],
        "recordSet": [
            _splits(manifest),
            _record_set("samples", "A record for every sample.", _sample_fields(manifest, anchor)),
            _record_set("inputs", "A record for every input, kept or left out.", _input_fields(manifest)),
            *(_record_set(one.name, f"The {one.extensions[0]} of every sample.", _pictures(one)) for one in others),
        ],
    }


@dataclass(frozen=True, slots=True)
class _Members:
    """The files of one kind in the tars."""

    name: str
    extensions: tuple[str, ...]

    @property
    def file_set(self) -> str:
        """Names the files, another name than that of the records made of them."""
        return f"{self.name}-files"


def _files(manifest: Manifest) -> Iterable[dict[str, Any]]:
    for record in manifest.shards:
        yield {
            **_file(f"data/{record.name}.tar", "application/x-tar", record.sha256),
            "contentSize": f"{record.size_bytes} B",
        }
    for name, sha256 in manifest.tables.items():
        yield _file(f"meta/{name}.parquet", PARQUET, sha256)


def _file(path: str, media_type: str, sha256: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": path,
        "name": path,
        "contentUrl": path,
        "encodingFormat": media_type,
        "sha256": sha256,
    }


def _tables() -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": TABLES,
        "name": TABLES,
        "description": "A row for every input, with the place of each of its files in the tar.",
        "encodingFormat": PARQUET,
        "includes": "meta/*.parquet",
    }


def _file_set(manifest: Manifest, members: _Members) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": members.file_set,
        "name": members.file_set,
        "description": "Files in the tars, named after the keys of the samples.",
        "containedIn": [{"@id": f"data/{record.name}.tar"} for record in manifest.shards],
        "encodingFormat": [MEDIA_TYPES[extension.rpartition(".")[2]] for extension in members.extensions],
        "includes": [f"*.{extension}" for extension in members.extensions],
    }


def _splits(manifest: Manifest) -> dict[str, Any]:
    """Name the splits. Which one a sample belongs to is the first word of its shard's name, and its field `split` if it has one."""
    fields = [("name", "sc:Text"), ("url", "sc:URL")]
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "description": "The splits: the files of each are `data/NAME-*.tar` and `meta/NAME-*.parquet`.",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [
            {"@type": "cr:Field", "@id": f"splits/{name}", "name": name, "dataType": kind} for name, kind in fields
        ],
        "data": [{"splits/name": split, "splits/url": SPLIT_KINDS.get(split, "cr:Split")} for split in manifest.splits],
    }


def _record_set(name: str, description: str, fields: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": description,
        "key": {"@id": f"{name}/key"},
        "field": [{"@type": "cr:Field", "@id": f"{name}/{field['name']}", **field} for field in fields],
    }


def _sample_fields(manifest: Manifest, anchor: _Members) -> Iterable[dict[str, Any]]:
    """Give the fields of a sample: its key from the tar, by which its row is found in the tables."""
    yield {**_key(anchor), "references": _column("key")}
    if anchor.name == "image":
        yield _picture("image", anchor)
    yield from (_cell(name, kind) for name, kind in manifest.header["columns"].items() if name != "key")


def _input_fields(manifest: Manifest) -> Iterable[dict[str, Any]]:
    yield from ({**_cell(name, "string"), "description": meaning} for name, meaning in STATUS.items())
    yield from (_cell(name, kind) for name, kind in manifest.header["columns"].items())


def _pictures(members: _Members) -> Iterable[dict[str, Any]]:
    return _key(members), _picture("image", members)


def _key(members: _Members) -> dict[str, Any]:
    """Take the key from a file's name; the pattern leaves a key as it is, for `mlcroissant` applies it twice."""
    source = {
        "fileSet": {"@id": members.file_set},
        "extract": {"fileProperty": "filename"},
        "transform": {"regex": "([^.]+)"},
    }
    return {"name": "key", "description": "Name of the sample.", "dataType": "sc:Text", "source": source}


def _picture(name: str, members: _Members) -> dict[str, Any]:
    source = {"fileSet": {"@id": members.file_set}, "extract": {"fileProperty": "content"}}
    return {"name": name, "dataType": "sc:ImageObject", "source": source}


def _cell(name: str, kind: str) -> dict[str, Any]:
    """Describe a column of the tables by its type in Arrow, such as `list<item: string>`."""
    element = kind.partition(": ")[2].rstrip(">")
    shape = {"isArray": True, "arrayShape": "-1"} if element else {}
    return {"name": name, "dataType": DATA_TYPES[element or kind], **shape, "source": _column(name)}


def _column(name: str) -> dict[str, Any]:
    return {"fileSet": {"@id": TABLES}, "extract": {"column": name}}
