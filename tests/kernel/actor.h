/* SPDX-License-Identifier: Apache-2.0 */
/* A child that acts when it is told to: for tests of what is noticed of a process. */
#ifndef USTACK_TESTS_ACTOR_H
#define USTACK_TESTS_ACTOR_H

#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <functional>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace session_scene {

/* A child that does its act each time it is told to, and nothing else. */
class Actor {
public:
	explicit Actor(const std::function<void()> &act)
	{
		int go[2], done[2];
		char c;

		if (pipe2(go, O_CLOEXEC) || pipe2(done, O_CLOEXEC))
			abort();
		go_ = go[1];
		done_ = done[0];
		pid = fork();
		if (pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			do {
				if (write(done[1], "", 1) != 1 || read(go[0], &c, 1) != 1)
					_exit(1);
				act();
			} while (true);
		}
		close(go[0]);
		close(done[1]);
		wait();
	}
	~Actor()
	{
		end();
		close(go_);
		close(done_);
	}
	void act()
	{
		if (write(go_, "", 1) != 1)
			abort();
		wait();
	}
	void end()
	{
		if (pid > 0) {
			kill(pid, SIGKILL);
			waitpid(pid, nullptr, 0);
		}
		pid = 0;
	}
	pid_t pid;

private:
	int go_, done_;
	void wait()
	{
		char c;
		if (read(done_, &c, 1) != 1)
			abort();
	}
};

} // namespace session_scene

#endif
