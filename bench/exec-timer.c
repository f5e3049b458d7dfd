// SPDX-License-Identifier: Apache-2.0
/*
 * Runs prepared commands and measures each from spawn to exit: what a container runtime waits for, without an
 * interpreter's own cost.
 *
 * exec-timer CONCURRENCY JOBS: JOBS is a file of lines, each the path of a job directory that holds `argv0`
 * (the program), `env` (NAME=VALUE lines), `stdin`; the job's standard output goes to `stdout` there. Prints
 * one line a job, in the order of their ends: JOB WALL_US CPU_US STATUS; then `total WALL_US`. CPU is user + system time of the
 * command and what it waited for (wait4).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_JOBS 100000
#define MAX_ENV 64

struct job {
	char *dir;
	pid_t pid;
	double started_us;
};

static struct job jobs[MAX_JOBS];

static void die(const char *what)
{
	fprintf(stderr, "exec-timer: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static char *read_file(const char *dir, const char *name)
{
	char path[4096];
	static char text[65536];
	ssize_t length;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		die(path);
	length = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (length < 0)
		die(path);
	text[length] = 0;
	return strdup(text);
}

static void start(struct job *job)
{
	posix_spawn_file_actions_t actions;
	char path[4096], *envp[MAX_ENV + 1], *save = NULL;
	char *program = strtok_r(read_file(job->dir, "argv0"), "\n", &save);
	char *argv[] = {program, NULL};
	int count = 0, error;

	save = NULL;
	for (char *line = strtok_r(read_file(job->dir, "env"), "\n", &save); line && count < MAX_ENV;
	     line = strtok_r(NULL, "\n", &save))
		envp[count++] = line;
	envp[count] = NULL;
	posix_spawn_file_actions_init(&actions);
	snprintf(path, sizeof(path), "%s/stdin", job->dir);
	posix_spawn_file_actions_addopen(&actions, 0, path, O_RDONLY, 0);
	snprintf(path, sizeof(path), "%s/stdout", job->dir);
	posix_spawn_file_actions_addopen(&actions, 1, path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	job->started_us = now_us();
	error = posix_spawn(&job->pid, program, &actions, NULL, argv, envp);
	if (error) {
		errno = error;
		die(program);
	}
	posix_spawn_file_actions_destroy(&actions);
}

static void reap(int count)
{
	struct rusage usage;
	int status;
	pid_t pid = wait4(-1, &status, 0, &usage);
	double ended_us = now_us();
	double cpu_us = usage.ru_utime.tv_sec * 1e6 + usage.ru_utime.tv_usec + usage.ru_stime.tv_sec * 1e6 +
			usage.ru_stime.tv_usec;

	if (pid < 0)
		die("wait4");
	for (int i = 0; i < count; i++) {
		if (jobs[i].pid != pid)
			continue;
		jobs[i].pid = 0;
		printf("%s %.0f %.0f %d\n", jobs[i].dir, ended_us - jobs[i].started_us, cpu_us,
		       WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	}
}

int main(int argc, char **argv)
{
	int concurrency = argc == 3 ? atoi(argv[1]) : 0, count = 0, next = 0, running = 0;
	char line[4096];
	double began_us;
	FILE *list;

	if (concurrency < 1) {
		fprintf(stderr, "usage: exec-timer CONCURRENCY JOBS\n");
		return 2;
	}
	list = fopen(argv[2], "re");
	if (!list)
		die(argv[2]);
	while (count < MAX_JOBS && fgets(line, sizeof(line), list)) {
		line[strcspn(line, "\n")] = 0;
		jobs[count++].dir = strdup(line);
	}
	fclose(list);
	began_us = now_us();
	while (next < count || running) {
		while (next < count && running < concurrency) {
			start(&jobs[next++]);
			running++;
		}
		reap(count);
		running--;
	}
	printf("total %.0f\n", now_us() - began_us);
	return 0;
}
