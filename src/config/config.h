/* config: from text to one typed, checked set of settings. One table (config.c) says for each setting how it is called,
 * which values it may have and where it lies in stel_config; defaults, checks, the environment and every message are
 * made from it, and so will be the file. Knows no kernel: what "auto" means on this machine is the runtime's business.
 */
#ifndef STEL_CONFIG_H
#define STEL_CONFIG_H

#include "base/base.h"
#include <stellane/runtime.h>

enum stel__key_type {
    STEL__KEY_INT,      /* int: a number */
    STEL__KEY_UNSIGNED, /* unsigned: a number */
    STEL__KEY_BOOL,     /* int: false 0, true 1 */
    STEL__KEY_SWITCH,   /* int: false -1, true 1, 0: who runs it decides */
    STEL__KEY_DURATION, /* int64_t, nanoseconds: a number with a unit */
    STEL__KEY_SIZE,     /* size_t, bytes: a number, with a unit or without */
    STEL__KEY_SEED,     /* uint64_t: any number, decimal or 0x... */
    STEL__KEY_CHOICE,   /* int: which of `words`, from 1 on */
    STEL__KEY_NAME      /* char[32] */
};

/* One setting. Zero in the field always stands for the default; as text that is "auto" where auto says so, and 0 only
 * where zero says so. */
typedef struct stel__key {
    const char *key;       /* dotted, as in the file */
    const char *env;       /* the variable */
    const char *alias;     /* a second variable with the same meaning, or NULL */
    const char *member;    /* of stel_config */
    uint8_t type;          /* enum stel__key_type */
    bool automatic;        /* "auto" may be written, */
    const char *auto_word; /* and this; may be NULL */
    bool zero;             /* 0 may be written */
    bool live;             /* may be changed while the runtime lives */
    uint16_t offset;       /* in stel_config */
    uint16_t width;        /* bytes there */
    const char *off;       /* the word for -1, or NULL when -1 is no value */
    int64_t min, max;      /* besides 0, and -1 if there is a word for it */
    int64_t preset;        /* the default; 0: not a constant */
    const char *words;     /* of a choice, each followed by a space */
    const char *hint;      /* what to write instead, for messages; may be NULL */
    const char *doc;
} stel__key;

const stel__key *stel__config_keys(size_t *n);

/* Read one value. 0, or -EINVAL with the reason, for a reader who knows which key and text are meant, in why. */
int stel__config_parse(const stel__key *k, const char *text, int64_t *value, char *why, size_t why_bytes);
/* A number in or out of a setting's field (not for names). */
int64_t stel__config_get(const stel_config *c, const stel__key *k);
void stel__config_put(stel_config *c, const stel__key *k, int64_t value);

/* A struct with a size beyond this is no newer header but a mistake, and its tail is not looked at. */
enum { STEL__CONFIG_SIZE_SANE = 4096 };

/* A program's settings (NULL: none), of whatever age its header is, as ours: fields it does not know are default,
 * unknown ones of a newer header must be zero, constants replace zeros, everything is checked. 0, or -EINVAL after a
 * line on stderr for each field that cannot be. */
int stel__config_adopt(stel_config *out, const stel_config *given);
/* Hand ours to a program that knows `size` bytes of it. */
int stel__config_hand_out(const stel_config *c, stel_config *out, size_t size);

#endif
