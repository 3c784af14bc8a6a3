"""Before torch is imported: tests share the processor with the studios and searches that they start."""

from calibri.threads import shorten_thread_waits

shorten_thread_waits()
