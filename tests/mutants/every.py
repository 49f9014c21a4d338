"""All mutants."""

from __future__ import annotations

from tests.mutants import (
    archive_guards,
    change_guards,
    debian_guards,
    disk_guards,
    file_guards,
    guards,
    handover_guards,
    nix_guards,
    oci_guards,
    page_guards,
    program_guards,
    result_guards,
    source_guards,
    store_guards,
    tap_guards,
    vmm_guards,
)

MUTANTS = (
    *guards.MUTANTS,
    *change_guards.MUTANTS,
    *debian_guards.MUTANTS,
    *handover_guards.MUTANTS,
    *page_guards.MUTANTS,
    *result_guards.MUTANTS,
    *file_guards.MUTANTS,
    *nix_guards.MUTANTS,
    *archive_guards.MUTANTS,
    *oci_guards.MUTANTS,
    *program_guards.MUTANTS,
    *tap_guards.MUTANTS,
    *source_guards.MUTANTS,
    *store_guards.MUTANTS,
    *vmm_guards.MUTANTS,
    *disk_guards.MUTANTS,
)
