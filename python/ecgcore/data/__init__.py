"""Twelve-lead ECG data: lead arithmetic and checks, PTB-XL, npy folders, WFDB files, a simulator,
quality figures.
"""

from __future__ import annotations

from ecgcore.data import quality
from ecgcore.data.base import ArrayDataset, ECGDataset, MissingDataError
from ecgcore.data.check import LeadCheck, check_leads
from ecgcore.data.classes import SCP_CODES, SUPERCLASSES, default_class_names, parse_labels
from ecgcore.data.leads import (
    BASES,
    LEADS,
    REFERENCE_LEADS,
    parse_lead,
    parse_leads,
    reorder_leads,
    to_eight_leads,
    to_twelve_leads,
)
from ecgcore.data.npy import NpyDataset
from ecgcore.data.open import open_dataset
from ecgcore.data.ptbxl import PTBXL
from ecgcore.data.simulate import Simulation, simulate, simulate_beats
from ecgcore.data.wfdb_format import read_record, write_record

__all__ = [
    "BASES",
    "LEADS",
    "PTBXL",
    "REFERENCE_LEADS",
    "SCP_CODES",
    "SUPERCLASSES",
    "ArrayDataset",
    "ECGDataset",
    "LeadCheck",
    "MissingDataError",
    "NpyDataset",
    "Simulation",
    "check_leads",
    "default_class_names",
    "open_dataset",
    "parse_labels",
    "parse_lead",
    "parse_leads",
    "quality",
    "read_record",
    "reorder_leads",
    "simulate",
    "simulate_beats",
    "to_eight_leads",
    "to_twelve_leads",
    "write_record",
]
