package dsl
import ("testing";"os";"fmt";"moec/ir/diag";"moec/ir";"time")
func TestY(t *testing.T){
 for _, name := range []string{"llama","mistral","mixtral","qwen2_moe","qwen3_moe","olmoe","gpt_oss","deepseek_v3", "deepseek_v2","granitemoe","phimoe"} {
 src, err := os.ReadFile("../examples/"+name+".moe")
 if err != nil { fmt.Println(err); continue }
 t0 := time.Now()
 f, l := Parse(name+".moe", src)
 if l != nil { l.Render(os.Stdout, diag.OneFile(name+".moe", src)); t.Error(); continue }
 t1 := time.Now()
 m, l := Build(f, Env{})
 if l != nil { l.Render(os.Stdout, diag.OneFile(name+".moe", src)); t.Error() ; continue}
 fmt.Println(name, t1.Sub(t0), time.Since(t1), len(m.Graph.Nodes), len(m.Graph.Weights), ir.Verify(m.Graph))
 }
}
