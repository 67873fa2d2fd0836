/* SPDX-License-Identifier: Apache-2.0 */
/* .NET and Mono. Debian has no .NET: its names are as its source and its
 * maintainers' reports have them. */
#include "runtime_names.h"

using namespace runtime_names;

namespace {

TEST(names_dotnet, methods_and_their_tiers)
{
	EXPECT_EQ(parts("void [app] Shop.Program::Main(string[])[QuickJitted]"), "Shop.Program::Main(string[]) [dotnet, baseline]");
	EXPECT_EQ(parts("instance int32 [app] Shop.Cart`1[System.__Canon]::Total(int32,string[],int32&)[OptimizedTier1]"),
		  "Shop.Cart`1[System.__Canon]::Total(int32,string[],int32&) [dotnet, optimized]");
	EXPECT_EQ(parts("bool [System.Private.CoreLib] System.Threading.PortableThreadPool+WorkerThread::WorkerThreadStart()[OptimizedTier1OSR]"),
		  "System.Threading.PortableThreadPool+WorkerThread::WorkerThreadStart() [dotnet, optimized]");
	EXPECT_EQ(parts("valuetype Shop.Tree/Node [app] Shop.Tree+Node::bottomUpTree(int32,int32)[PreJIT]"),
		  "Shop.Tree+Node::bottomUpTree(int32,int32) [dotnet, mid]");
	EXPECT_EQ(parts("instance void [app] Shop.Cart::.ctor(valuetype Shop.Tree/Node)"),
		  "Shop.Cart::.ctor(valuetype Shop.Tree/Node) [dotnet]");
	EXPECT_EQ(parts("uint8[] [a-b.c] N.T::f(!!0*,!!0*)[Tier0]"), "N.T::f(!!0*,!!0*) [dotnet, baseline]");
}

/* The number is another one in the next run: it would keep rows apart. */
TEST(names_dotnet, stubs)
{
	EXPECT_EQ(parts("stub<5> GenerateLookupStub<GenerateLookupStub>"), "GenerateLookupStub<GenerateLookupStub> [stub]");
	EXPECT_EQ(parts("stub<12> AllocateTemporaryEntryPoints<PRECODE_FIXUP>"), "AllocateTemporaryEntryPoints<PRECODE_FIXUP> [stub]");
}

TEST(names_dotnet, others_names_stay_as_they_are)
{
	expect_as_written({ "[app] T::f()", "void [app] f()", "void [app] ::f()", "void [app] T::f", "void [app]T::f()", "void [ap p] T::f()",
			    "void [] T::f()", "void T::f()[QuickJitted]", "void [app] T::f()[Quick]", "void f(int) [clone .cold]",
			    "int ns::f(int) [clone .part.0]", "stub<> A<B>", "stub<x> A<B>", "stub<1>A<B>", "stub<1> A", "[JIT] Object#f" });
}

TEST(names_mono, jitmap_of_mono_6_8)
{
	EXPECT_EQ(names_of("mono-6.8.map"),
		  (std::vector<std::string>{
			  "generic_trampoline_jit [jit]", "(wrapper alloc) object:AllocSmall (intptr,intptr) [stub]",
			  "Shop.Program:Main (string[]) [mono]", "System.Threading.Tasks.Task:FromResult<int> (int) [mono]",
			  "System.Collections.Generic.Dictionary`2<int, System.Threading.Tasks.Task>:.ctor () [mono]",
			  "Shop.Cart`1<T_REF>:.ctor () [mono]",
			  "Shop.Program:Outer (Shop.Cart`1<string>,System.Func`2<int, int>) [mono]",
			  "Shop.Cart`1<T_REF>:Total (int,string[],int&) [mono]",
			  "Shop.Program/<Main>c__AnonStorey0:<>m__0 (int) [mono]" }));
}

TEST(names_mono, others_names_stay_as_they_are)
{
	expect_as_written({ "f (int)", ":f (int)", "T: (int)", "T:f(int)", "T:f (int", "T:f  (int)", "T::f (int)", "T:f:g (int)",
			    "(wrapper", "(wrapper x)", "(wrapper x) f", "(wrapper x)T:f (int)", "a b:c (int)", "T<a:f (int)", "error: 1 (x) y",
			    "(null)" });
}

} // namespace
