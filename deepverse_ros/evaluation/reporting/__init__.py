"""Figures for machines and for people: JSON, tables, plots, films, model cards."""
