/* 32-bit words of a memory BAR, by the file that sysfs has for it. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "probe.h"

#define PAGE 4096ul

static volatile uint32_t *words_of(const char *address, const char *bar, const char *offset, const char *length)
{
	size_t at = strtoul(offset, NULL, 0), end = at + strtoul(length, NULL, 0);
	uint8_t *memory;
	char path[128];
	int file;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource%s", address, bar);
	file = open(path, O_RDWR | O_SYNC);
	if (file < 0)
		die(path);
	memory = mmap(NULL, (end + PAGE - 1) & ~(PAGE - 1), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (memory == MAP_FAILED)
		die("mmap");
	return (volatile uint32_t *)(memory + at);
}

int fill(const char *address, const char *bar, const char *offset, const char *length, const char *value)
{
	volatile uint32_t *words = words_of(address, bar, offset, length);
	size_t i, count = strtoul(length, NULL, 0) / 4;
	uint32_t word = strtoul(value, NULL, 0);

	for (i = 0; i < count; i++)
		words[i] = word;
	return 0;
}

int sum(const char *address, const char *bar, const char *offset, const char *length)
{
	volatile uint32_t *words = words_of(address, bar, offset, length);
	size_t i, count = strtoul(length, NULL, 0) / 4;
	uint32_t result = 0;

	for (i = 0; i < count; i++)
		result += words[i];
	printf("%08x\n", result);
	return 0;
}
