"""Pretrained weights by name: from the hub's cache, or downloaded; if neither works, a quick and clear error."""

import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import timm

from avpea.errors import WeightsError
from avpea.trust import fetching_refused

__all__ = ["fetch", "fetch_if_there", "from_hub"]

_PROBE_SECONDS = 1.3
_ALLOWED_BY = "give --backbone.weights pretrained to download them, or a local FILE, or "
_OTHER_OPTIONS = "name a local file with --backbone.weights FILE, or take --backbone.name starter (no hub needed)"


def from_hub(name: str) -> Path:
    """The file with a timm model's pretrained weights, from the cache or downloaded.

    A cached file is used without network access; a hub that does not answer is reported within two seconds (the
    hub's own client retries for most of a minute).

    Raises:
        WeightsError: Neither cached nor downloadable; names the repository, the cache folder and what helps.
    """
    config = timm.models.get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        raise WeightsError(f"timm knows no pretrained weights for '{name}'; {_OTHER_OPTIONS}.")
    files = [config.hf_hub_filename] if config.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]
    return fetch(config.hf_hub_id, files, f"The weights of '{name}'", _OTHER_OPTIONS)


def fetch(repository: str, files: Sequence[str], what: str, otherwise: str) -> Path:
    """The first of several files that exists in a hub repository, from the cache or downloaded.

    Args:
        repository: `owner/name`.
        files: File names in the repository, the preferred one first.
        what: Description of the files, the subject of the error.
        otherwise: Remedy without the hub, for the error.

    Raises:
        WeightsError: Neither cached nor downloadable; names the repository, the cache folder and what helps.
    """
    if (found := fetch_if_there(repository, files, what, otherwise)) is None:
        raise WeightsError(f"The repository {repository} has no {' or '.join(files)}; {otherwise}.")
    return found


def fetch_if_there(
    repository: str, files: Sequence[str], what: str, otherwise: str, allowed_by: str = _ALLOWED_BY
) -> Path | None:
    """As `fetch`; None if the repository has none of the files.

    Args:
        repository: `owner/name`.
        files: File names in the repository, the preferred one first.
        what: Description of the files, the subject of the error.
        otherwise: Remedy without the hub, for the error.
        allowed_by: What the command can say so that it is downloaded, for the error, if only a stranger's file asks.

    Raises:
        WeightsError: It cannot be asked, or the download fails.
    """
    import huggingface_hub  # slow, and not needed for local files

    there = [huggingface_hub.try_to_load_from_cache(repository, file) for file in files]
    if cached := next((one for one in there if isinstance(one, str)), None):
        return Path(cached)
    if None not in there:  # it has been asked for each of them before, and has none
        return None
    if refused := fetching_refused():
        raise WeightsError(
            f"{what} ({repository}) are not in the cache folder {huggingface_hub.constants.HF_HUB_CACHE}, and "
            f"{refused}, so that nothing is downloaded because it says so: {allowed_by}add trust=True if you trust "
            "whoever made it."
        )
    endpoint = huggingface_hub.constants.ENDPOINT
    offline = huggingface_hub.constants.HF_HUB_OFFLINE
    if offline or not _reachable(endpoint):
        reason = "HF_HUB_OFFLINE is set" if offline else f"{endpoint} does not answer"
        raise WeightsError(
            f"{what} ({repository}) are not in the cache folder {huggingface_hub.constants.HF_HUB_CACHE}, and "
            f"{reason}: go online, {otherwise}."
        )
    for file in files:
        if (path := _download(what, repository, file, otherwise)) is not None:
            return path
    return None


def _download(what: str, repository: str, file: str, otherwise: str) -> Path | None:
    """The downloaded file; None if the repository has no such file."""
    import huggingface_hub
    from huggingface_hub import errors as hub_errors

    try:
        return Path(huggingface_hub.hf_hub_download(repository, file))
    except hub_errors.RepositoryNotFoundError as error:  # also raised for a gated repository
        raise WeightsError(
            f"{what}: the hub has no repository {repository}, or it asks for a login (`hf auth login`); {otherwise}."
        ) from error
    # The hub's client uses different HTTP libraries in different versions, with different errors.
    except Exception as error:
        lost = isinstance(error, hub_errors.LocalEntryNotFoundError)  # no connection, rather than no such file
        if isinstance(error, hub_errors.EntryNotFoundError) and not lost:
            return None
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        raise WeightsError(
            f"Downloading {file} of {repository} into {huggingface_hub.constants.HF_HUB_CACHE} failed "
            f"({reason}): try again, {otherwise}."
        ) from error


def _reachable(endpoint: str) -> bool:
    """Whether the hub answers within `_PROBE_SECONDS`, DNS look-up included."""
    answered = threading.Event()

    def ask() -> None:
        try:
            request = urllib.request.Request(endpoint, method="HEAD")
            urllib.request.urlopen(request, timeout=_PROBE_SECONDS).close()
        except urllib.error.HTTPError:
            pass  # an HTTP error is an answer
        except (OSError, ValueError):
            return
        answered.set()

    # In a daemon thread, because the time-out of `urlopen` does not bound the DNS look-up.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_PROBE_SECONDS)
    return answered.is_set()
