/*
 * What the guest's shell can not do: it drives a device by VFIO, and draws into a BAR. Static, no library but libc.
 *
 *     probe edu 0000:00:12.0                              a device that is bound to vfio-pci
 *     probe testdev 0000:00:12.0
 *     probe fill 0000:00:13.0 BAR OFFSET LENGTH VALUE     32-bit words of a memory BAR
 *     probe sum 0000:00:13.0 BAR OFFSET LENGTH            the sum of these words, modulo 2^32
 *
 * A step that is not as it should be is printed with the word FAILED, and the exit status is 1.
 */
#include <stdio.h>
#include <string.h>

#include "probe.h"

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 3 && !strcmp(argv[1], "edu"))
		return edu(argv[2]);
	if (argc == 3 && !strcmp(argv[1], "testdev"))
		return testdev(argv[2]);
	if (argc == 7 && !strcmp(argv[1], "fill"))
		return fill(argv[2], argv[3], argv[4], argv[5], argv[6]);
	if (argc == 6 && !strcmp(argv[1], "sum"))
		return sum(argv[2], argv[3], argv[4], argv[5]);
	fprintf(stderr, "usage: probe edu ADDRESS | testdev ADDRESS | fill ADDRESS BAR OFFSET LENGTH VALUE |\n"
			"       probe sum ADDRESS BAR OFFSET LENGTH\n");
	return 2;
}
