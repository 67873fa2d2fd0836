/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Symbols that are not in the file itself: a separate debug file, found by
 * build id or debug link below /usr/lib/debug of the tracer's own file system
 * (nowhere else: no network, no folder that a traced process can write to), or
 * an xz-compressed ELF file in section .gnu_debugdata.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <lzma.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "symbols/symtab.h"

#define MAX_ID 64
#define MAX_UNPACKED (128u << 20)
#define XZ_MEMORY (128u << 20) /* twice what unpacking xz -9 takes */

/* Find the GNU build id among the notes of one chunk of the file. */
static size_t id_in_notes(Elf_Data *data, unsigned char id[MAX_ID])
{
	size_t pos = 0, name, desc, next;
	GElf_Nhdr nh;

	while ((next = gelf_getnote(data, pos, &nh, &name, &desc)) > 0) {
		if (nh.n_type == NT_GNU_BUILD_ID && nh.n_namesz == sizeof("GNU") &&
		    !memcmp((char *)data->d_buf + name, "GNU", sizeof("GNU")) &&
		    nh.n_descsz >= 2 && nh.n_descsz <= MAX_ID) {
			memcpy(id, (char *)data->d_buf + desc, nh.n_descsz);
			return nh.n_descsz;
		}
		pos = next;
	}
	return 0;
}

/* Length of @elf's build id; 0: none. Through the section headers: a separate
 * debug file's segments point at nothing. */
static size_t build_id(Elf *elf, unsigned char id[MAX_ID])
{
	Elf_Scn *scn = NULL;
	size_t n = 0;

	while (!n && (scn = elf_nextscn(elf, scn))) {
		GElf_Shdr sh;
		Elf_Data *data;

		if (!gelf_getshdr(scn, &sh) || sh.sh_type != SHT_NOTE || sh.sh_size > (64u << 10))
			continue;
		data = elf_getdata(scn, NULL);
		if (data && data->d_buf)
			n = id_in_notes(data, id);
	}
	return n;
}

static int open_regular(const char *path)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;

	if (fd >= 0 && (fstat(fd, &st) || !S_ISREG(st.st_mode))) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* Has the file @fd this build id? */
static bool has_id(int fd, const unsigned char *id, size_t n)
{
	unsigned char other[MAX_ID];
	bool same;
	Elf *elf;

	if (symtab_open_elf(fd, &elf))
		return false;
	same = build_id(elf, other) == n && !memcmp(id, other, n);
	elf_end(elf);
	return same;
}

static int open_by_id(const char *root, const unsigned char *id, size_t n)
{
	char hex[2 * MAX_ID + 1] = "", path[4096];
	int fd;

	for (size_t i = 0; i < n; i++)
		snprintf(hex + 2 * i, 3, "%02x", id[i]);
	if ((size_t)snprintf(path, sizeof(path), "%s/.build-id/%.2s/%s.debug", root, hex, hex + 2) >=
	    sizeof(path))
		return -1;
	fd = open_regular(path);
	if (fd >= 0 && !has_id(fd, id, n)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* Has the file @fd the CRC-32 (zlib's) that the debug link wants? */
static bool has_crc(int fd, uint32_t want)
{
	static const size_t size = 64u << 10;
	uint8_t *buf = malloc(size);
	uint32_t crc = 0;
	off_t at = 0;
	ssize_t n = -1;

	while (buf && (n = pread(fd, buf, size, at)) > 0) {
		crc = lzma_crc32(buf, (size_t)n, crc);
		at += n;
	}
	free(buf);
	return n == 0 && crc == want;
}

static int open_by_link(const char *root, Elf *elf, const char *path)
{
	size_t size, len, at;
	const char *link = symtab_section_data(elf, symtab_section(elf, ".gnu_debuglink"), 4096, &size);
	const char *slash = strrchr(path, '/');
	char full[3 * 4096];
	uint32_t crc;
	int fd;

	if (!link || !slash || path[0] != '/' || strstr(path, "/../"))
		return -1;
	len = strnlen(link, size);
	at = (len + 4) & ~(size_t)3; /* past the NUL, aligned */
	if (!len || at + sizeof(crc) > size || memchr(link, '/', len))
		return -1;
	memcpy(&crc, link + at, sizeof(crc));
	if ((size_t)snprintf(full, sizeof(full), "%s%.*s/%s", root, (int)(slash - path), path,
			     link) >= sizeof(full))
		return -1;
	fd = open_regular(full);
	if (fd >= 0 && !has_crc(fd, crc)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

int debug_file_open(const char *root, Elf *elf, const char *path)
{
	unsigned char id[MAX_ID];
	size_t n = build_id(elf, id);
	int fd = n ? open_by_id(root, id, n) : -1;

	return fd >= 0 ? fd : open_by_link(root, elf, path);
}

/* Unpack @in into the file @fd. The unpacked size is the file's choice, so it
 * is cut off at a bound; false then, or if it is no sound xz stream. */
static bool unpack(const void *in, size_t size, int fd)
{
	lzma_stream xz = LZMA_STREAM_INIT;
	static const size_t chunk = 256u << 10;
	uint8_t *out = malloc(chunk);
	lzma_ret ret = LZMA_OK;
	size_t total = 0;

	if (!out || lzma_stream_decoder(&xz, XZ_MEMORY, 0) != LZMA_OK)
		ret = LZMA_MEM_ERROR;
	xz.next_in = in;
	xz.avail_in = size;
	while (ret == LZMA_OK) {
		size_t n;

		xz.next_out = out;
		xz.avail_out = chunk;
		ret = lzma_code(&xz, LZMA_FINISH);
		n = chunk - xz.avail_out;
		total += n;
		if (total > MAX_UNPACKED || write(fd, out, n) != (ssize_t)n)
			ret = LZMA_DATA_ERROR;
	}
	lzma_end(&xz);
	free(out);
	return ret == LZMA_STREAM_END;
}

int debug_data_open(Elf *elf)
{
	size_t size;
	const void *data = symtab_section_data(elf, symtab_section(elf, ".gnu_debugdata"),
					       32u << 20, &size);
	int fd = data ? memfd_create("debugdata", MFD_CLOEXEC) : -1;

	if (fd >= 0 && !unpack(data, size, fd)) {
		close(fd);
		fd = -1;
	}
	return fd;
}
