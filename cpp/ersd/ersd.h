// The whole library, bottom to top: each room includes only the rooms above it in this list.
#pragma once

// clang-format off: the order is the point.
#include "ersd/token.h"                    // the id of a token
#include "ersd/stats.h"                    // counts and times of one generation
#include "ersd/stopwatch.h"                // the time that a scope takes
#include "ersd/process.h"                  // which process an object was made in
#include "ersd/operation.h"                // what operations in llama.cpp's calls have in common
#include "ersd/check.h"                    // checks of arguments, and their messages

#include "ersd/race/simd/philox.h"         // 128 random bits of a counter and a key
#include "ersd/race/simd/lanes.h"          // vectors that every compiler and machine has
#include "ersd/race/simd/variants.h"       // hand-written vector code, chosen at run time
#include "ersd/race/logarithm.h"           // a logarithm with the same bits on every machine
#include "ersd/race/noise.h"               // clocks: Exp(1) noise for each seed, position, token
#include "ersd/race/indices_at_least.h"           // the indices of values that reach a threshold
#include "ersd/race/sampling_options.h"    // temperature and truncation as options
#include "ersd/race/truncation.h"            // temperature, top-k, top-p and min-p
#include "ersd/race/selection.h"           // typical-p and XTC
#include "ersd/race/race.h"                // the winner and the first arrivals of a race
#include "ersd/race/logprobs.h"            // log-probabilities of emitted tokens

#include "ersd/matrix/variants.h"          // loops of products, for several instruction sets
#include "ersd/matrix/product.h"           // weights in Q8_0 times the inputs of several tokens

#include "ersd/attention/variants.h"       // its loops, for several instruction sets
#include "ersd/attention/seen_cells.h"     // which cells a token sees
#include "ersd/attention/attention.h"      // attention with the same bits in every call

#include "ersd/tree/draft_tree.h"          // a tree of drafted tokens
#include "ersd/tree/tree_shape.h"          // the tree shapes of the drafting strategies
#include "ersd/tree/batch.h"               // a tree as a batch of sequences

#include "ersd/model/language_model.h"     // the interface of a language model
#include "ersd/model/call_widths.h"        // how many tokens a call may have
#include "ersd/model/width_test.h"         // whether logits depend on how many tokens a call has
#include "ersd/model/table_model.h"        // a model whose logits are a table, for tests

#include "ersd/verify/method.h"            // the methods of decoding
#include "ersd/verify/grammar.h"           // which tokens may come next
#include "ersd/verify/logits_processor.h"  // what changes logits before the race
#include "ersd/verify/weights.h"           // rows of probabilities that rejection takes from
#include "ersd/verify/rejection.h"         // greedy rejection sampling
#include "ersd/verify/block.h"             // block verification of a chain
#include "ersd/verify/coupling.h"          // methods: the draft's order and the target's token
#include "ersd/verify/verify.h"            // from target logits to the accepted path

#include "ersd/learning/histogram.h"       // ranks of the target's tokens in the draft's order
#include "ersd/learning/margins.h"         // the chance of each of the first arrivals to win
#include "ersd/learning/correction.h"      // a draft that corrects itself
#include "ersd/learning/cost.h"            // the time of a call by its number of tokens
#include "ersd/learning/draft_controller.h"      // the number of tokens to draft
#include "ersd/learning/draft_trials.h"    // whether drafting pays for many sequences
#include "ersd/learning/path_threshold.h"  // how probable the paths of grown trees must be
#include "ersd/learning/thread_governor.h" // threads while other processes are busy
#include "ersd/learning/prompt_pacer.h"    // how much of prompts a step reads
#include "ersd/learning/profile.h"         // what is learnt about a pair of models

#include "ersd/draft/draft_rows.h"         // the draft's logits at the nodes of a tree
#include "ersd/draft/drafted_tree.h"       // one sequence's tree while it is drafted
#include "ersd/draft/drafter.h"            // from the draft model to the trees of a step

#include "ersd/decode/options.h"           // the options of a generation
#include "ersd/decode/option_table.h"      // each option with its range and one sentence
#include "ersd/decode/sequence.h"          // one generation under way
#include "ersd/decode/engine.h"            // the decoding step of many sequences

#include "ersd/llama/backend.h"            // llama.cpp: devices and log
#include "ersd/llama/control_groups.h"     // limits of the processes of a container
#include "ersd/llama/cores.h"              // how many threads this process may keep busy
#include "ersd/llama/host_memory.h"        // how much memory it may still take
#include "ersd/llama/gguf_metadata.h"      // the metadata of a file and its ranges
#include "ersd/llama/gguf_tensors.h"       // the shapes of its tensors
#include "ersd/llama/gguf_check.h"         // whether llama.cpp can load a file
#include "ersd/llama/model.h"              // weights and vocabulary
#include "ersd/llama/state_shape.h"        // how llama.cpp writes a saved sequence
#include "ersd/llama/device_memory.h"      // what models and contexts take, and whether it fits
#include "ersd/llama/own_operations.h"     // attention and products of ours in llama.cpp's calls
#include "ersd/llama/context.h"            // decoding and cache
#include "ersd/llama/samplers.h"           // bias, penalties and DRY
#include "ersd/llama/teacher.h"            // many texts side by side
#include "ersd/llama/model_facts.h"        // what a file says beyond what decoding needs
#include "ersd/llama/plain_context.h"      // calls without trees, each row with an output
#include "ersd/llama/embedder.h"           // embeddings of texts
#include "ersd/llama/row_reader.h"         // the logits of every token of a text

#include "ersd/text.h"                     // UTF-8 and stop strings
#include "ersd/request.h"                  // a generation as its caller sees it
#include "ersd/places.h"                   // who uses which place of the caches
#include "ersd/scheduler.h"                // which requests run
#include "ersd/model_pair.h"               // a target, a draft and their contexts
#include "ersd/worker.h"                   // a thread that runs one function after another
#include "ersd/teams.h"                    // which thread calls llama.cpp for many threads
#include "ersd/generator.h"                // from prompts to text, for many threads
// clang-format on
