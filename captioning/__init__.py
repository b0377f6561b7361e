"""From attributes to captions: FineGPR-C by templates, LUPerson-T by divide, conquer and combine."""
