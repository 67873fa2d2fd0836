/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that is started, says that it is ready, and is seen through its memory as the
 * walkers' user side sees it (runtimes/image.h).
 */
#ifndef TARGET_SCENE_H
#define TARGET_SCENE_H

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

extern "C" {
#include "processes/process.h"
#include "runtimes/image.h"
}

namespace target_scene {

/* @argv, until its first line of output; killed at the end. */
class Program
{
public:
	explicit Program(std::vector<std::string> argv)
	{
		std::vector<char *> args;
		int out[2];

		for (auto &a : argv)
			args.push_back(a.data());
		args.push_back(nullptr);
		if (pipe2(out, O_CLOEXEC))
			return;
		pid = fork();
		if (!pid) {
			dup2(out[1], 1);
			execvp(args[0], args.data());
			_exit(127);
		}
		close(out[1]);
		for (char c; read(out[0], &c, 1) == 1 && c != '\n';)
			said += c;
		close(out[0]);
		if (process_open(pid, &process))
			return;
		target.memory = process_open_memory(process);
		for (size_t i = 0; i < process->n_maps; i++)
			maps.push_back({ process->maps[i].start, process->maps[i].end, process->maps[i].offset,
					 process->maps[i].path });
		target.maps = maps.data();
		target.n_maps = maps.size();
	}
	~Program()
	{
		if (target.memory >= 0)
			close(target.memory);
		process_free(process);
		if (pid > 0) {
			kill(pid, SIGKILL);
			waitpid(pid, nullptr, 0);
		}
	}
	Program(const Program &) = delete;
	Program &operator=(const Program &) = delete;

	std::string said;
	pid_t pid = -1;
	struct process *process = nullptr;
	std::vector<struct target_mapping> maps;
	struct target target = { -1, nullptr, 0 };
};

} // namespace target_scene

#endif
