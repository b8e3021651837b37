"""From a boot set's document to what its nodes boot with (contracts, BOS 4.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sessions_app.models import BootArtifacts, BootImage


def parent_of(path: str) -> str:
    """The folder of a manifest: `s3://boot-images/ID` of `s3://boot-images/ID/manifest.json`."""
    return path.rsplit("/", 1)[0] if "/" in path else path


def artifacts_of(boot_set: Mapping[str, Any], *, actual_state_ttl: str) -> BootArtifacts:
    """Kernel, initrd and kernel parameters of a boot set.

    A registered image says what its manifest holds; of others the kernel and initrd stand beside the
    manifest, as in every image that BOS boots.
    """
    image = image_of(boot_set)
    etag = boot_set.get("etag") or image.etag
    words = [image.boot_parameters, boot_set.get("kernel_parameters") or ""]
    words += [*_root(boot_set, boot_set["path"], etag), f"bos_update_frequency={actual_state_ttl}"]
    return BootArtifacts.of(
        kernel=image.kernel, initrd=image.initrd, kernel_parameters=" ".join(word for word in words if word)
    )


def image_of(boot_set: Mapping[str, Any]) -> BootImage:
    """The registered image, or what an unregistered one is taken to be."""
    path, folder = boot_set["path"], parent_of(boot_set["path"])
    registered = BootImage.objects.filter(path=path).first()
    return registered or BootImage(path=path, kernel=f"{folder}/kernel", initrd=f"{folder}/initrd")


def _root(boot_set: Mapping[str, Any], path: str, etag: str) -> list[str]:
    """The root file system's parameters; `sbps` is the only provider that the original knows."""
    if boot_set.get("rootfs_provider") != "sbps":
        return []
    parts = ["root=sbps-s3", f"{parent_of(path)}/rootfs", etag]
    if boot_set.get("rootfs_provider_passthrough"):
        parts.append(boot_set["rootfs_provider_passthrough"])
    return [":".join(parts), f"nmd_data=url={parent_of(path)}/rootfs,etag={etag}"]
