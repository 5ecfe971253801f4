// Variants of attention as hooks: those that the documentation shows, with the declarations they need.
#pragma once

#include <array>

namespace lathe::expr::testing {

struct Example {
  const char* name;
  const char* text;
};

inline constexpr std::array kExamples{
    Example{"causal", "mask = kv_pos <= q_pos"},
    Example{"sliding window", "param W:i32; mask = kv_pos <= q_pos && q_pos - kv_pos < W"},
    Example{"bidirectional window", "param W:i32; mask = abs(q_pos - kv_pos) <= W"},
    Example{"StreamingLLM", "param S,W:i32; mask = kv_pos <= q_pos && (kv_pos < S || q_pos - kv_pos < W)"},
    Example{"soft-cap", "param cap:f32; logits = cap * tanh(score / cap)"},
    Example{"ALiBi", "tensor a:f32[HQ]; logits = score + a[h] * f32(kv_pos - q_pos)"},
    Example{"gpt-oss", "param W:i32; tensor s:f32[HQ]; sink = s[h]; mask = kv_pos <= q_pos && q_pos - kv_pos < W"},
    Example{"sigmoid attention", "param bias:f32; normalizer=none; logits = sigmoid(score + bias)"},
    Example{"Llama-4 local", "const C=8192; mask = kv_pos <= q_pos && kv_pos//C == q_pos//C"},
    Example{"Llama-4 temperature", "param a:f32; param F:f32 in [1, 1e6]; query = x * (1 + a * log(floor(f32(pos + 1) / F) + 1))"},
    Example{"image spans", "tensor lo,hi:i32[TOK] summary; mask = kv_pos<=q_pos || (lo[tok]<=kv_pos && kv_pos<hi[tok])"},
    Example{"packed documents", "tensor st:i32[TOK] sorted; mask = st[tok] <= kv_pos && kv_pos <= q_pos"},
    Example{"multi-item scoring",
            "tensor it:i32[TOK] sorted, pf:i32[B]; mask = kv_pos<=q_pos && (kv_pos<pf[b] || it[tok]<=kv_pos)"},
    Example{"tree speculation",
            "tensor tr:u32[TOK,2], cx:i32[B]; mask = kv<cx[b] || bit(tr[tok,clamp(kv-cx[b],0,63)>>5], clamp(kv-cx[b],0,63)&31)"},
    Example{"packed custom mask", "param KW:i32; tensor mb:u32[TOK,KW] summary; mask = bit(mb[tok, kv>>5], kv&31)"},
    Example{"context parallel", "param W,R:i32; kv_pos := kv*W + R; mask = kv_pos <= q_pos"},
    Example{"duo-attention", "param S,W:i32; tensor st:u8[HQ]; mask = kv_pos<=q_pos && (st[h]==0 || kv_pos<S || q_pos-kv_pos<W)"},
    Example{"T5 bias",
            "tensor rb:f32[HQ,32]; let n=q_pos-kv_pos; let g=16+i32(log(f32(max(n,1))/16)/log(8)*16);\n"
            "logits = score + rb[h, clamp(n<16 ? n : g, 0, 31)]"},
    Example{"forgetting attention", "tensor F:f32[SLOT,HQ], Fq:f32[TOK,HQ]; logits = score + Fq[tok,h] - F[slot,h]"},
    Example{"MagicPIG",
            "tensor kn:f32[SLOT,HKV], qn:f32[TOK,HQ]; const K=10,L=150;\n"
            "logits = let p=1-acos(clamp(dot/(kn[slot,hk]*qn[tok,h]),-1,1))*0.31831; let a=powi(p,K);\n"
            "let w=1-powi(1-a,L)-f32(L)*a*powi(1-a,L-1); score - log(max(w, 0) + 1e-4)"},
    Example{"TPA", "tensor ak,av:f16[SLOT,HQ]; logits = score*ak[slot,h]; weight = w*av[slot,h]"},
    Example{"int8 KV", "tensor ks,vs:f32[SLOT,HKV]; logits = score*ks[slot,hk]; weight = w*vs[slot,hk]"},
    Example{"APE", "param S,T:f32; lse_transform = lse*(S*T)"},
    Example{"gated attention", "tensor g:bf16[TOK,HQ,D]; output = o * sigmoid(f32(g[tok,h,d]))"},
    Example{"learned 2-D bias", "tensor bs:f32[HQ,N], rel:i32[QLEN,KVPOS]; logits = score + bs[h, rel[q,kv]]"},
    Example{"dilated window", "param W,DIL:i32; let n=abs(q_pos-kv_pos); mask = n <= W && n % DIL == 0"},
    Example{"NATTEN 2-D", "param W,a,c,e,f,kx,ky:i32; mask = abs(clamp(q//W,a,c)-kv//W)<=kx && abs(clamp(q%W,e,f)-kv%W)<=ky"},
    Example{"RoPE",
            "tensor f: f32[N]; let angle = f32(pos) * f[d % 32];\n"
            "query = x * cos(angle) + rot(x) * sin(angle); key = x * cos(angle) + rot(x) * sin(angle)"},
    Example{"RoPE, interleaved half",
            "rotary = interleaved(32); tensor f: f32[N]; let angle = d < 32 ? f32(pos) * f[d // 2] : 0;\n"
            "query = x * cos(angle) + rot(x) * sin(angle); key = x * cos(angle) + rot(x) * sin(angle); mask = kv_pos <= q_pos"},
    Example{"scaled values", "tensor vs: bf16[HKV, D]; value = x * vs[hk, d]; mask = kv_pos <= q_pos"},
    Example{"cosine attention",
            "param tau:f32 in [1, 100]; tensor rk:f32[SLOT,HKV]; logits = tau * dot * rk[slot,hk] / max(qnorm, 1e-6)"},
    Example{"SSMax", "tensor s:f32[HQ]; logits = score * s[h] * log(f32(kv_len))"},
};

}  // namespace lathe::expr::testing
